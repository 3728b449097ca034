//! From a figure to a file: SVG as drawn, PNG from that same SVG at twice the size, and either whole or not at all.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::error::PlotError;
use super::{Figure, font};

/// Pixels of a PNG for each pixel of the SVG, for sharp print and dense screens.
const PNG_SCALE: f32 = 2.0;

enum Format {
    Svg,
    Png,
}

/// Draws `figure` and writes it to `path` as the extension says: `.svg` or `.png`.
///
/// The file appears complete or not at all: it is written beside its place under another name and then renamed. An
/// existing file is replaced.
///
/// # Errors
///
/// [`PlotError::UnknownFormat`] for another extension, the errors of [`Figure::svg`] for data that cannot be drawn, and
/// [`PlotError::Write`] where the file cannot be written.
pub fn render(figure: &impl Figure, path: impl AsRef<Path>) -> Result<(), PlotError> {
    let path = path.as_ref();
    let bytes = match format_of(path)? {
        Format::Svg => figure.svg()?.into_bytes(),
        Format::Png => figure.png()?,
    };
    write_whole(path, &bytes).map_err(|source| PlotError::Write { path: path.to_owned(), source })
}

fn format_of(path: &Path) -> Result<Format, PlotError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match extension.to_ascii_lowercase().as_str() {
        "svg" => Ok(Format::Svg),
        "png" => Ok(Format::Png),
        _ => Err(PlotError::UnknownFormat { path: path.to_owned(), extension: extension.into_owned() }),
    }
}

/// The pixels of one of our own SVG documents as a PNG.
pub(super) fn rasterise(svg: &str) -> Result<Vec<u8>, PlotError> {
    let options = Options { fontdb: font::database(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| PlotError::Raster(error.to_string()))?;
    let size = tree.size();
    let pixels = |length: f32| (length * PNG_SCALE).round() as u32;
    let (width, height) = (pixels(size.width()), pixels(size.height()));
    let mut pixmap = Pixmap::new(width, height)
        .ok_or_else(|| PlotError::Raster(format!("no memory for {width} × {height} pixels")))?;
    resvg::render(&tree, Transform::from_scale(PNG_SCALE, PNG_SCALE), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| PlotError::Raster(error.to_string()))
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if moved.is_err() {
        // The first error is the one to tell; a failing removal would only hide it.
        let _ = fs::remove_file(&temporary);
    }
    moved
}

/// A new file in the folder of `path` under a name nobody else uses.
fn create_beside(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut attempt = 0u32;
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{attempt}.tmp", process::id()));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}
