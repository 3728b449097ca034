//! Records to questions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use foveate_data::Picture;

use super::{Answers, Benchmark, Layout, Questions, mme};
use crate::item::Item;
use crate::metric::Expected;
use crate::table::{Row, Table, file};
use crate::{EvalError, Result};

/// Letters of options in columns of their own.
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
/// Published files of MMBench hold a question once for each turn of its options, numbered by so many apart.
const TURN: u64 = 1_000_000;
/// Pictures that one question of MMMU may refer to.
const MOST_PICTURES: usize = 7;

pub(super) fn read(benchmark: Benchmark, path: &Path, images: &Path, split: &str) -> Result<Questions> {
    let texts = if benchmark == Benchmark::Mme { mme::read(path, images)? } else { None };
    let (layout, table) = (
        benchmark.layout(),
        texts.map_or_else(|| Table::open(path, split, benchmark == Benchmark::Mmmu), Ok)?,
    );
    let reader = Reader::new(benchmark, &layout, &table, images, split)?;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let (mut items, mut without_reference) = (Vec::new(), 0);
    for number in 0..table.rows.len() {
        match reader.question(number)? {
            Read::Items(new) => items.extend(new.into_iter().map(|item| unique(item, &mut seen))),
            Read::NoReference => without_reference += 1,
            Read::LeftOut => {}
        }
    }
    if items.is_empty() {
        let splits = reader.splits();
        if !splits.is_empty() && !splits.iter().any(|found| is_split(found, split)) {
            let found = splits.into_iter().collect::<Vec<_>>().join(", ");
            return Err(EvalError::format(
                &table.place,
                format!("holds nothing of split {split}; it has {found}"),
            ));
        }
        let reason = format!(
            "none of its {} records has both a picture and a reference answer; is it a split whose answers are kept back?",
            table.rows.len()
        );
        return Err(EvalError::format(&table.place, reason));
    }
    Ok(Questions { items, without_reference })
}

/// Names in files may come twice: the two questions of a picture of MME have one.
fn unique(mut item: Item, seen: &mut HashMap<String, usize>) -> Item {
    let times = seen.entry(item.id.clone()).or_insert(0);
    *times += 1;
    if *times > 1 {
        item.id = format!("{}#{times}", item.id);
    }
    item
}

enum Read {
    Items(Vec<Item>),
    NoReference,
    /// Without a picture, of another split, or a turn that is made here.
    LeftOut,
}

struct Reader<'a> {
    benchmark: Benchmark,
    layout: &'a Layout,
    table: &'a Table,
    images: &'a Path,
    /// The part of the dataset that is wanted, and the column that says which a record is of.
    wanted: &'a str,
    split: Option<&'a str>,
    /// Numbers of all records, where turns of one question are records of their own.
    numbers: HashSet<u64>,
    question: &'a str,
    hint: Option<&'a str>,
    id: Option<&'a str>,
    picture: Option<&'a str>,
    picture_id: Option<&'a str>,
    skill: Option<&'a str>,
    options: Vec<&'a str>,
    answer: &'a str,
}

impl<'a> Reader<'a> {
    fn new(
        benchmark: Benchmark,
        layout: &'a Layout,
        table: &'a Table,
        images: &'a Path,
        wanted: &'a str,
    ) -> Result<Reader<'a>> {
        let (options, answer) = match layout.answers {
            Answers::Texts(answer) | Answers::YesNo(answer) => (Vec::new(), table.column(answer)?),
            Answers::Listed { options, answer } | Answers::ListedOrOpen { options, answer } => {
                (vec![table.column(options)?], table.column(answer)?)
            }
            Answers::Lettered(answer) => {
                // C and D may be absent from a file of questions with two options each.
                let two = [table.column(&LETTERS[..1])?, table.column(&LETTERS[1..2])?];
                let more = LETTERS[2..].iter().filter_map(|letter| table.optional(&[letter]));
                (two.into_iter().chain(more).collect(), table.column(answer)?)
            }
            Answers::MathVista => (vec![table.column(&["choices"])?], table.column(&["answer"])?),
        };
        let (picture, id) = (table.optional(layout.picture), table.optional(layout.id));
        if picture.is_none() {
            // Its file is named after another column.
            table.column(&[layout.picture, layout.picture_id].concat()[..])?;
        }
        Ok(Reader {
            benchmark,
            layout,
            table,
            images,
            wanted,
            split: table.optional(layout.split),
            numbers: match (layout.answers, id) {
                (Answers::Lettered(_), Some(id)) => {
                    table.rows.iter().filter_map(|row| row.text(id)?.parse().ok()).collect()
                }
                _ => HashSet::new(),
            },
            question: table.column(layout.question)?,
            hint: table.optional(layout.hint),
            id,
            picture,
            picture_id: table.optional(layout.picture_id),
            skill: table.optional(layout.skill),
            options,
            answer,
        })
    }

    fn question(&self, number: usize) -> Result<Read> {
        let row = &self.table.rows[number];
        if self.is_of_another_split(row) || self.is_turn(row) {
            return Ok(Read::LeftOut);
        }
        let text = row.text(self.question).ok_or_else(|| self.wrong(number, "has no question"))?;
        let hint = self.hint.and_then(|hint| row.text(hint)).filter(|text| is_there(text));
        let question = hint.map_or(text.clone(), |hint| format!("{hint}\n{text}"));
        let options = self.options(row);
        let Some(expected) = self.expected(row, &options, number)? else { return Ok(Read::NoReference) };
        if self.layout.may_be_blind && !self.picture.is_some_and(|column| row.has_picture(column)) {
            return Ok(Read::LeftOut);
        }
        let pictures = self.pictures(row, &question, &options, number)?;
        let id = self.id.and_then(|id| row.text(id)).unwrap_or_else(|| (number + 1).to_string());
        let named = self.picture_id.and_then(|column| row.text(column));
        let group = named.or_else(|| row.picture_digest(self.picture?)).unwrap_or_else(|| id.clone());
        let skill =
            self.skill.and_then(|skill| row.text(skill).or_else(|| row.texts(skill)?.into_iter().next()));
        let item = Item {
            unit: if self.benchmark == Benchmark::Mme { group.clone() } else { id.clone() },
            id,
            group,
            pictures,
            question,
            options,
            expected,
            skill: skill.unwrap_or_else(|| self.benchmark.name().to_owned()),
            family: self.benchmark.family(),
        };
        Ok(Read::Items(match self.layout.answers {
            Answers::Lettered(_) => turns(&item),
            _ => vec![item],
        }))
    }

    fn is_of_another_split(&self, row: &Row) -> bool {
        self.split.and_then(|column| row.text(column)).is_some_and(|found| !is_split(&found, self.wanted))
    }

    /// The splits that records say they are of.
    fn splits(&self) -> BTreeSet<String> {
        self.table.rows.iter().filter_map(|row| row.text(self.split?)).collect()
    }

    /// Whether this is a question of the file again with its options turned.
    fn is_turn(&self, row: &Row) -> bool {
        let number = self.id.and_then(|id| row.text(id)?.parse::<u64>().ok());
        number.is_some_and(|number| number >= TURN && self.numbers.contains(&(number % TURN)))
    }

    fn options(&self, row: &Row) -> Vec<String> {
        match self.layout.answers {
            Answers::Lettered(_) => {
                let texts = self.options.iter().filter_map(|letter| row.text(letter));
                texts.filter(|text| is_there(text)).collect()
            }
            _ => self.options.first().and_then(|column| row.options(column)).unwrap_or_default(),
        }
    }

    /// `None` where the file keeps the answer back.
    fn expected(&self, row: &Row, options: &[String], number: usize) -> Result<Option<Expected>> {
        let Some(said) = row.texts(self.answer) else { return Ok(None) };
        let first = said[0].trim();
        if matches!(self.layout.answers, Answers::Lettered(_)) && !is_there(&said[0]) {
            return Ok(None);
        }
        Ok(Some(match self.layout.answers {
            Answers::Texts(_) => Expected::Texts(said),
            Answers::YesNo(_) => match first.to_lowercase().as_str() {
                "yes" => Expected::YesNo(true),
                "no" => Expected::YesNo(false),
                _ => return Err(self.wrong(number, format!("answers {first:?}; yes or no is expected"))),
            },
            Answers::ListedOrOpen { .. } if options.is_empty() => {
                Expected::Texts(row.answers(self.answer).unwrap_or_default())
            }
            Answers::Listed { .. } | Answers::Lettered(_) | Answers::ListedOrOpen { .. } => {
                let index = first.parse::<usize>().ok().or_else(|| by_letter(first));
                let right = index.filter(|index| *index < options.len()).ok_or_else(|| {
                    let count = options.len();
                    self.wrong(number, format!("answers {first:?}; one of its {count} options is expected"))
                })?;
                Expected::Option(right)
            }
            Answers::MathVista if !options.is_empty() => {
                let right = options.iter().position(|option| option.trim() == first).ok_or_else(|| {
                    self.wrong(number, format!("answers {first:?}, which is none of its options"))
                })?;
                Expected::Option(right)
            }
            Answers::MathVista => {
                let kind = row.text("answer_type").unwrap_or_default();
                let digits =
                    row.text("precision").and_then(|digits| digits.parse::<f64>().ok()).unwrap_or(0.0);
                match first.parse::<f64>() {
                    Ok(value) if kind == "integer" => Expected::Number { value: value.trunc(), digits: 0 },
                    Ok(value) if kind == "float" => {
                        Expected::Number { value, digits: digits.clamp(0.0, 12.0) as u32 }
                    }
                    _ => Expected::Texts(said),
                }
            }
        }))
    }

    fn pictures(&self, row: &Row, question: &str, options: &[String], number: usize) -> Result<Vec<Picture>> {
        if self.benchmark == Benchmark::Mmmu {
            let texts = || std::iter::once(question).chain(options.iter().map(String::as_str));
            let named = |nth: &usize| texts().any(|text| text.contains(&format!("<image {nth}>")));
            let columns: Vec<String> =
                (1..=MOST_PICTURES).filter(named).map(|nth| format!("image_{nth}")).collect();
            let found: Vec<Picture> =
                columns.iter().filter_map(|column| row.picture(column, self.images)).collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if let Some(picture) = self.by_name(row).or_else(|| row.picture(self.picture?, self.images)) {
            return Ok(vec![picture]);
        }
        Err(self.wrong(number, "has no picture"))
    }

    /// The picture's file, where its name is made of other columns; the first name that exists, or else the first.
    fn by_name(&self, row: &Row) -> Option<Picture> {
        // A column that has no text holds the picture itself.
        if self.picture.is_some_and(|column| !row.values.contains_key(column)) {
            return None;
        }
        let names: Vec<_> = self.layout.file.iter().filter_map(|pattern| filled(pattern, row)).collect();
        let paths = names.iter().map(|name| self.images.join(name));
        let found = paths.clone().find(|path| path.is_file());
        found.or_else(|| paths.clone().next()).map(file)
    }

    fn wrong(&self, number: usize, reason: impl std::fmt::Display) -> EvalError {
        self.table.wrong(number, reason)
    }
}

/// Where a table went through pandas, what is absent is called nan.
fn is_there(text: &str) -> bool {
    text != "nan"
}

/// Whether a record's split is the wanted one: `val` and `validation` are one.
fn is_split(found: &str, wanted: &str) -> bool {
    found.starts_with(wanted) || wanted.starts_with(found)
}

fn by_letter(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let (Some(only), None) = (characters.next(), characters.next()) else { return None };
    only.is_ascii_uppercase().then(|| only as usize - 'A' as usize)
}

/// A pattern with its columns' values; `None` where a column is absent.
fn filled(pattern: &str, row: &Row) -> Option<String> {
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('{') {
        let (column, after) = behind.split_once('}')?;
        let (column, digits) = column.split_once(':').unwrap_or((column, "0"));
        let value = row.text(column)?;
        let digits: usize = digits.parse().ok()?;
        name += before;
        name += &format!("{value:0>digits$}");
        rest = after;
    }
    Some(name + rest)
}

/// The question with each option in each place once. Options that come twice make no two turns alike.
fn turns(item: &Item) -> Vec<Item> {
    let Expected::Option(right) = item.expected else { return vec![item.clone()] };
    let count = item.options.len();
    let turn = |by: usize| {
        let mut options = item.options.clone();
        options.rotate_left(by);
        let expected = Expected::Option((right + count - by) % count);
        Item { id: format!("{}+{by}", item.id), options, expected, ..item.clone() }
    };
    (0..count).map(turn).collect()
}
