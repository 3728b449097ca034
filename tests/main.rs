//! The program as its user sees it.
