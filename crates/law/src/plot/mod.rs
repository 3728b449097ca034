//! Figures worth putting in a paper, as SVG and PNG.
