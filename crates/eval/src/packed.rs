//! The samples of finished cells in one compressed file, small enough to be kept with the rows they gave.
//!
//! `samples.zip` has a file for each task: a line that names its cells, then a line for each question with what every cell
//! answered to it. Cells of a task answer the same questions, so that each is written once and all else repeats.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::journal::{self, Header};
use crate::sample::{Outcome, Sample};
use crate::sweep::Folder;
use crate::{EvalError, Result};

/// The file in the folder of a sweep.
const PACKED: &str = "samples.zip";

/// A cell in a packed file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    cell: String,
    header: Header,
}

/// A question and what the cells answered, by their number among the entries.
#[derive(Serialize, Deserialize)]
struct Line {
    /// A sample without its outcome.
    asked: Map<String, Value>,
    /// `null` where a cell was not asked it.
    outcomes: Vec<Option<Outcome>>,
}

/// What a cell's file of samples says.
type Content = (Header, Vec<Sample>);

/// The samples of a folder of results, wherever they are.
#[derive(Debug)]
pub struct Answers {
    folder: Folder,
    packed: BTreeMap<String, Content>,
}

impl Answers {
    /// Reads what is packed; other files are read when they are asked for.
    ///
    /// # Errors
    /// A packed file that cannot be read or is none of ours.
    pub fn open(folder: &Folder) -> Result<Answers> {
        let path = folder.path().join(PACKED);
        let packed = if path.is_file() { unpack(&path)? } else { BTreeMap::new() };
        Ok(Answers { folder: folder.clone(), packed })
    }

    /// Whether a folder is one that a sweep keeps samples in.
    pub(crate) fn are_in(folder: &Path) -> bool {
        folder.join("samples").is_dir() || folder.join(PACKED).is_file()
    }

    /// The samples of a cell: its own file goes before what is packed, unless there is nothing in it.
    ///
    /// # Errors
    /// A cell without samples; a file that cannot be read.
    pub fn of(&self, cell: &str) -> Result<Content> {
        let path = self.folder.samples(cell);
        let Some(packed) = self.packed.get(cell) else { return journal::read(&path) };
        if path.is_file() {
            let own = journal::read(&path)?;
            if !own.1.is_empty() {
                return Ok(own);
            }
        }
        Ok(packed.clone())
    }

    /// The cells that have samples, packed or not.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn cells(&self) -> Result<BTreeSet<String>> {
        let mut cells: BTreeSet<String> = self.packed.keys().cloned().collect();
        cells.extend(self.folder.sampled()?);
        Ok(cells)
    }
}

/// Puts the samples of all finished cells into one file, with those that are in it already, and removes their own files.
/// Returns how many cells it holds.
///
/// # Errors
/// Samples that cannot be read; a file that cannot be written, which leaves everything as it was.
pub fn pack(folder: &Folder) -> Result<usize> {
    let answers = Answers::open(folder)?;
    let mut tasks: BTreeMap<String, Vec<(Entry, Vec<Sample>)>> = BTreeMap::new();
    let mut cells: Vec<String> = folder.results().rows()?.into_iter().map(|row| row.cell).collect();
    cells.sort_unstable();
    for cell in &cells {
        let (header, samples) = answers.of(cell)?;
        if samples.is_empty() {
            return Err(EvalError::format(
                folder.samples(cell).display(),
                "holds no answers, but its cell has a row",
            ));
        }
        let entry = Entry { cell: cell.clone(), header };
        tasks.entry(entry.header.task.clone()).or_default().push((entry, samples));
    }
    let (path, beside) = (folder.path().join(PACKED), folder.path().join("samples.zip.part"));
    let wrong = |error: &dyn std::fmt::Display| EvalError::format(beside.display(), error);
    let mut zip = ZipWriter::new(File::create(&beside).map_err(EvalError::io(&beside))?);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9));
    for (task, cells) in &tasks {
        zip.start_file(format!("{task}.jsonl"), options).map_err(|error| wrong(&error))?;
        zip.write_all(&text(cells)?).map_err(EvalError::io(&beside))?;
    }
    let file = zip.finish().map_err(|error| wrong(&error))?;
    file.sync_all().map_err(EvalError::io(&beside))?;
    std::fs::rename(&beside, &path).map_err(EvalError::io(&path))?;
    for cell in &cells {
        let own = folder.samples(cell);
        if own.is_file() {
            std::fs::remove_file(&own).map_err(EvalError::io(&own))?;
        }
    }
    Ok(cells.len())
}

/// The lines of a task.
fn text(cells: &[(Entry, Vec<Sample>)]) -> Result<Vec<u8>> {
    let (mut lines, mut places): (Vec<Line>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    let wrong = |error: serde_json::Error| EvalError::format("samples", error);
    for (nth, (_, samples)) in cells.iter().enumerate() {
        for sample in samples {
            let (asked, outcome) = apart(sample).map_err(wrong)?;
            let name = serde_json::to_string(&asked).map_err(wrong)?;
            let place = *places.entry(name).or_insert_with(|| {
                lines.push(Line { asked, outcomes: vec![None; cells.len()] });
                lines.len() - 1
            });
            lines[place].outcomes[nth] = Some(outcome);
        }
    }
    let entries: Vec<&Entry> = cells.iter().map(|(entry, _)| entry).collect();
    let mut text = serde_json::to_vec(&entries).map_err(wrong)?;
    for line in lines {
        text.push(b'\n');
        text.extend(serde_json::to_vec(&line).map_err(wrong)?);
    }
    text.push(b'\n');
    Ok(text)
}

/// A sample as what was asked and what came of it.
fn apart(sample: &Sample) -> serde_json::Result<(Map<String, Value>, Outcome)> {
    let as_map = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
    let mut asked = as_map(serde_json::to_value(sample)?);
    for field in as_map(serde_json::to_value(&sample.outcome)?).keys() {
        asked.remove(field);
    }
    Ok((asked, sample.outcome.clone()))
}

/// One sample again.
fn joined(asked: &Map<String, Value>, outcome: &Outcome) -> serde_json::Result<Sample> {
    let mut whole = asked.clone();
    if let Value::Object(outcome) = serde_json::to_value(outcome)? {
        whole.extend(outcome);
    }
    serde_json::from_value(Value::Object(whole))
}

fn unpack(path: &Path) -> Result<BTreeMap<String, Content>> {
    let wrong = |place: &str, error: &dyn std::fmt::Display| {
        let place = if place.is_empty() { Cow::Borrowed("") } else { Cow::Owned(format!(", {place}")) };
        EvalError::format(format!("{}{place}", path.display()), format!("holds no samples: {error}"))
    };
    let file = File::open(path).map_err(EvalError::io(path))?;
    let mut zip = ZipArchive::new(file).map_err(|error| wrong("", &error))?;
    let mut all = BTreeMap::new();
    for at in 0..zip.len() {
        let member = zip.by_index(at).map_err(|error| wrong("", &error))?;
        let name = member.name().map_err(|error| wrong("", &error))?.into_owned();
        let mut lines = BufReader::new(member).lines();
        let first = lines.next().transpose().map_err(|error| wrong(&name, &error))?.unwrap_or_default();
        let entries: Vec<Entry> = serde_json::from_str(&first).map_err(|error| wrong(&name, &error))?;
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); entries.len()];
        for line in lines {
            let line = line.map_err(|error| wrong(&name, &error))?;
            let line: Line = serde_json::from_str(&line).map_err(|error| wrong(&name, &error))?;
            for (samples, outcome) in samples.iter_mut().zip(&line.outcomes) {
                if let Some(outcome) = outcome {
                    samples.push(joined(&line.asked, outcome).map_err(|error| wrong(&name, &error))?);
                }
            }
        }
        all.extend(
            entries
                .into_iter()
                .zip(samples)
                .map(|(Entry { cell, header }, samples)| (cell, (header, samples))),
        );
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::Journal;
    use crate::metric::{Expected, Metric};
    use crate::sample::Answered;

    fn sample(nth: usize, cell: usize) -> Sample {
        let answered = Answered {
            answer: format!("ü{}", nth % (cell + 2)),
            read: nth.is_multiple_of(2).then(|| "yes".into()),
            score: nth as f64 / 4.0,
            visual_tokens: 4,
            flops: 1e9 + nth as f64,
            ms: 0.125 * (nth + cell) as f64,
        };
        let outcome = match nth {
            5 => Outcome::Failed { failure: "broken".into() },
            _ => Outcome::Answered(answered),
        };
        Sample {
            id: nth.to_string(),
            group: (nth / 4).to_string(),
            unit: nth.to_string(),
            skill: "count".into(),
            family: "reasoning".into(),
            question: format!("How many are there in number {nth}?"),
            looked_for: None,
            expected: Expected::Texts(vec!["ü".into()]),
            outcome,
        }
    }

    /// A finished cell with so many of the questions.
    fn finish(folder: &Folder, cell: usize, questions: usize) -> (String, Vec<Sample>) {
        let row = crate::results::tests::row(&format!("m{cell}"), 1000, 4.0, 0.5);
        folder.results().append(&row).unwrap();
        let header = Header {
            task: if cell == 9 { "texts" } else { "scenes" }.into(),
            metric: Metric::ExactMatch,
            family: "reasoning".into(),
            split: Some("validation".into()),
            model: row.run.clone(),
            compressor: "quecc".into(),
            visual_tokens: "4".into(),
            run: cell.to_string(),
        };
        let mut journal = Journal::open(&folder.samples(&row.cell), &header).unwrap().unwrap();
        (0..questions).for_each(|nth| journal.add(&sample(nth, cell)).unwrap());
        (row.cell, journal.samples().to_vec())
    }

    #[test]
    fn what_is_packed_is_what_was_answered() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let mut known: Vec<(String, Vec<Sample>)> =
            [(0, 200), (1, 200), (2, 120), (9, 50)].map(|(cell, most)| finish(&folder, cell, most)).into();
        let files = || std::fs::read_dir(home.path().join("samples")).unwrap().count();
        let size = || std::fs::metadata(home.path().join(PACKED)).unwrap().len();
        // A cell that is not finished keeps its file.
        std::fs::write(folder.samples("unfinished"), "{\"task\":").unwrap();
        let bytes: u64 =
            known.iter().map(|(cell, _)| std::fs::metadata(folder.samples(cell)).unwrap().len()).sum();
        assert_eq!((pack(&folder).unwrap(), files()), (4, 1));
        assert!(size() < bytes / 5, "{} of {bytes} bytes", size());
        // More cells later, and the same once more.
        known.push(finish(&folder, 3, 200));
        assert_eq!((pack(&folder).unwrap(), pack(&folder).unwrap(), files()), (5, 5, 1));
        let answers = Answers::open(&folder).unwrap();
        for (cell, samples) in &known {
            assert_eq!(answers.of(cell).unwrap().1, *samples, "{cell}");
        }
        assert_eq!(answers.of(&known[2].0).unwrap().0.run, "2");
        // A process that came late opened a file for a cell that was packed meanwhile.
        let (late, samples) = &known[0];
        drop(Journal::open(&folder.samples(late), &answers.of(late).unwrap().0).unwrap());
        assert_eq!(Answers::open(&folder).unwrap().of(late).unwrap().1, *samples);
        assert_eq!(pack(&folder).unwrap(), 5);
        assert_eq!(Answers::open(&folder).unwrap().of(late).unwrap().1, *samples);
        assert!(answers.of("unfinished").is_err() && answers.of("none").is_err());
    }

    #[test]
    fn other_files_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        std::fs::write(home.path().join(PACKED), "no zip").unwrap();
        let error = Answers::open(&folder).unwrap_err().to_string();
        assert!(error.contains("samples.zip") && error.contains("holds no samples"), "{error}");
    }
}
