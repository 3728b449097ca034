//! What inference costs: FLOPs, bytes and memory of every stage, from plain dimensions.
