//! Importers on small datasets in the layouts of the public originals, whole and broken.

use std::fs::{File, create_dir_all, write};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use foveate_data::dataset::{
    DatasetError, EasyVqa, EasyVqaSplit, Emoji, EmojiImages, EmojiSet, Folder, Llava, Nlvr, NlvrSplit, Part,
    SheetSide, Subset, TextLines, TextLinesSplit,
};
use foveate_data::{Family, Order, Sample, Skill, Source, Stream, Tolerance};
use image::{Rgba, RgbaImage};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

/// A PNG of one colour.
fn png(path: &Path, side: u32, colour: [u8; 4]) {
    create_dir_all(path.parent().unwrap()).unwrap();
    RgbaImage::from_pixel(side, side, Rgba(colour)).save(path).unwrap();
}

fn text(path: &Path, text: &str) {
    create_dir_all(path.parent().unwrap()).unwrap();
    write(path, text).unwrap();
}

/// Everything below `folder` in a zip file, some of it compressed.
fn zipped(folder: &Path, zip: &Path) {
    let mut writer = zip::ZipWriter::new(File::create(zip).unwrap());
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let method = if name.ends_with("png") {
                zip::CompressionMethod::Stored
            } else {
                zip::CompressionMethod::Deflated
            };
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            writer.start_file(name, options).unwrap();
            writer.write_all(&std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
    writer.finish().unwrap();
}

fn samples(source: &dyn Source) -> Vec<Result<Sample, String>> {
    (0..source.len()).map(|index| source.sample(index).map_err(|error| error.to_string())).collect()
}

fn asked(sample: &Sample) -> Vec<(&str, &str)> {
    sample.questions.iter().map(|question| (question.text.as_str(), question.answer.as_str())).collect()
}

fn first_pixel(sample: &Sample) -> [u8; 3] {
    let image = sample.picture.as_ref().unwrap().image().unwrap();
    [0, 1, 2].map(|channel| image.as_rgb()[channel])
}

#[test]
fn llava_conversations() {
    let folder = tempdir().unwrap();
    png(&folder.path().join("images/coco/1.png"), 4, [9, 8, 7, 255]);
    let records = [
        r#"{"id": "1", "image": "coco/1.png", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A \"cat\" [sitting]."}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Rest."}]}"#,
        r#"{"id": 2, "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]}"#,
        r#"{"id": "3", "image": "coco/1.png", "conversations": [{"from": "human", "value": "Alone"}]}"#,
        r#"{"id": "4", "conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]}"#,
        r#"{"id": "5", "image": "../../etc/passwd", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}"#,
        r#"{"id": "6", "image": 7}"#,
    ];
    text(&folder.path().join("mix.json"), &format!("[{}]", records.join(",\n ")));
    let lines: Vec<String> = records.iter().map(|record| record.replace('\n', " ")).collect();
    text(&folder.path().join("mix.jsonl"), &lines.join("\n"));
    for file in ["mix.json", "mix.jsonl"] {
        let source = Llava::open(&folder.path().join(file), &folder.path().join("images")).unwrap();
        let found = samples(&source);
        assert_eq!(found.len(), 6);
        let first = found[0].as_ref().unwrap();
        assert_eq!(asked(first), [("What is it?", "A \"cat\" [sitting]."), ("Why?", "Rest.")]);
        assert_eq!((first.conversation, first.questions[0].skill), (true, Skill::Open));
        assert_eq!(first_pixel(first), [9, 8, 7]);
        assert!(found[1].as_ref().unwrap().picture.is_none());
        let error = |index: usize| found[index].as_ref().unwrap_err();
        assert!(error(2).contains("3: has 1 turns; expected questions and answers in pairs"), "{}", error(2));
        assert!(error(3).contains("turns are from \"gpt\" and \"human\""), "{}", error(3));
        let image = found[4].as_ref().unwrap().picture.as_ref().unwrap().image().unwrap_err().to_string();
        assert!(image.contains("leads out of the dataset"), "{image}");
        assert!(error(5).contains(file) && error(5).contains("expected a string"), "{}", error(5));
    }
    let error = Llava::open(&folder.path().join("none.json"), folder.path()).err().unwrap();
    assert!(matches!(error, DatasetError::Layout { .. }), "{error}");
}

fn easy_vqa() -> TempDir {
    let folder = tempdir().unwrap();
    let data = folder.path().join("easy_vqa/data");
    for (split, images) in [("train", 21), ("test", 3)] {
        let mut records = Vec::new();
        for image in 0..images {
            png(&data.join(format!("{split}/images/{image}.png")), 4, [image as u8, 0, 0, 255]);
            records.push(format!(r#"["what color is the shape?", "red", {image}]"#));
            records.push(format!(r#"["is there a circle?", "no", {image}]"#));
        }
        text(&data.join(format!("{split}/questions.json")), &format!("[{}]", records.join(", ")));
    }
    folder
}

#[test]
fn easy_vqa_from_folder_and_wheel() {
    let folder = easy_vqa();
    let wheel = tempdir().unwrap();
    let wheel = wheel.path().join("easy_vqa-1.0-py3-none-any.whl");
    zipped(folder.path(), &wheel);
    for path in [folder.path().to_path_buf(), folder.path().join("easy_vqa"), wheel] {
        let open = |split| EasyVqa::open(&path, split).unwrap();
        let lengths =
            [EasyVqaSplit::Train, EasyVqaSplit::Dev, EasyVqaSplit::Test].map(|split| open(split).len());
        assert_eq!(lengths, [18, 3, 3]);
        let dev: Vec<Sample> = samples(&open(EasyVqaSplit::Dev)).into_iter().map(Result::unwrap).collect();
        assert_eq!(dev.iter().map(|sample| first_pixel(sample)[0]).collect::<Vec<_>>(), [0, 10, 20]);
        assert_eq!(asked(&dev[1]), [("what color is the shape?", "red"), ("is there a circle?", "no")]);
        assert_eq!([dev[1].questions[0].skill, dev[1].questions[1].skill], [Skill::Attribute, Skill::Exist]);
    }
}

#[test]
fn nlvr_in_both_layouts() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("repository");
    for (directory, identifier) in [("0", "12-0"), ("3", "12-1")] {
        for order in 0..6 {
            png(
                &root.join(format!("nlvr/dev/images/{directory}/dev-{identifier}-{order}.png")),
                4,
                [order, 0, 0, 255],
            );
        }
    }
    text(
        &root.join("nlvr/dev/dev.json"),
        "{\"sentence\": \"There is a tower.\", \"label\": \"true\", \"identifier\": \"12-0\", \"structured_rep\": [[], [], []]}\n\
         {\"sentence\": \"there is a  tower\", \"label\": \"false\", \"identifier\": \"12-1\", \"structured_rep\": [[], [], []]}\n",
    );
    let repository = Nlvr::open(&root, NlvrSplit::Dev).unwrap();
    let found: Vec<Sample> = samples(&repository).into_iter().map(Result::unwrap).collect();
    assert_eq!(found.len(), 12);
    assert_eq!(asked(&found[0]), [("Does this sentence fit the picture? There is a tower.", "yes")]);
    assert_eq!((first_pixel(&found[4])[0], asked(&found[7])[0].1), (4, "no"));
    assert_eq!(found[0].group, found[11].group);

    let flat = folder.path().join("flat");
    png(&flat.join("images/0.png"), 4, [1, 0, 0, 255]);
    png(&flat.join("images/1.png"), 4, [2, 0, 0, 255]);
    text(
        &flat.join("train.jsonl"),
        "{\"images\": [\"images/0.png\", \"images/1.png\"], \"sentence\": \"One\", \"label\": true}\n\
         {\"images\": [\"images/0.png\"], \"sentence\": \"Two\", \"label\": \"maybe\"}\n{\"images\": [\n",
    );
    zipped(&flat, &folder.path().join("nlvr.zip"));
    for path in [flat, folder.path().join("nlvr.zip")] {
        let found = samples(&Nlvr::open(&path, NlvrSplit::Train).unwrap());
        assert_eq!(found.len(), 4);
        assert_eq!([0, 1].map(|index| first_pixel(found[index].as_ref().unwrap())[0]), [1, 2]);
        assert!(
            found[2]
                .as_ref()
                .unwrap_err()
                .contains("train.jsonl record 2: label \"maybe\"; expected true or false")
        );
        assert!(found[3].as_ref().unwrap_err().contains("train.jsonl record 3: EOF"), "{:?}", found[3]);
    }
    let error = Nlvr::open(folder.path(), NlvrSplit::Test).err().unwrap().to_string();
    assert!(error.contains("holds none of test.jsonl, test/test.json, nlvr/test/test.json"), "{error}");
}

#[test]
fn text_lines_cut_by_receipt() {
    let folder = tempdir().unwrap();
    let record = |i: usize| {
        format!("{{\"image\": \"lines/{i}.png\", \"text\": \" TOTAL {i}\", \"receipt\": \"{:03}\"}}", i / 5)
    };
    text(&folder.path().join("train.jsonl"), &(0..500).map(record).collect::<Vec<_>>().join("\n"));
    png(&folder.path().join("lines/7.png"), 4, [3, 2, 1, 255]);
    let source: Arc<dyn Source> = Arc::new(TextLines::open(folder.path(), TextLinesSplit::Train).unwrap());
    let sample = source.sample(7).unwrap();
    assert_eq!(
        (asked(&sample)[0], sample.questions[0].family),
        (("What is written?", "TOTAL 7"), Family::Text)
    );
    assert_eq!((sample.group.as_str(), first_pixel(&sample)), ("001", [3, 2, 1]));
    let groups = |seed, part| {
        let subset = Subset::cut(source.clone(), 0.2, seed, part);
        samples(&subset).into_iter().map(|sample| sample.unwrap().group).collect::<Vec<_>>()
    };
    let (kept, held) = (groups(1, Part::Kept), groups(1, Part::HeldOut));
    assert_eq!(kept.len() + held.len(), 500);
    assert!(kept.iter().all(|group| !held.contains(group)));
    assert!((50..150).contains(&held.len()) && held != groups(2, Part::HeldOut), "{}", held.len());
}

#[test]
fn emoji_from_files_and_from_a_sheet() {
    let folder = tempdir().unwrap();
    let record = |name: &str, image: &str, category: &str, x, y, google| {
        format!(
            "{{\"name\": \"{name}\", \"unified\": \"1F35F\", \"image\": \"{image}\", \"category\": \"{category}\", \"sheet_x\": {x}, \
             \"sheet_y\": {y}, \"has_img_apple\": true, \"has_img_google\": {google}, \"has_img_twitter\": true, \"has_img_facebook\": false}}"
        )
    };
    let records = [
        record("FRENCH FRIES", "fries.png", "Food & Drink", 0, 0, true),
        record("Egypt Flag", "flag.png", "Flags", 0, 1, true),
        record("ROSE", "rose.png", "Animals & Nature", 1, 1, true),
        record("PIANO", "piano.png", "Objects", 5, 5, false),
    ];
    text(&folder.path().join("emoji.json"), &format!("[{}]", records.join(",")));
    // Transparent but for a half-covered corner.
    let mut drawing = RgbaImage::from_pixel(64, 64, Rgba([0, 0, 0, 0]));
    drawing.put_pixel(0, 0, Rgba([255, 0, 0, 128]));
    create_dir_all(folder.path().join("img/google/64")).unwrap();
    drawing.save(folder.path().join("img/google/64/fries.png")).unwrap();
    let mut sheet = RgbaImage::from_pixel(44, 44, Rgba([0, 0, 0, 0]));
    sheet.put_pixel(23, 23, Rgba([10, 20, 30, 255]));
    create_dir_all(folder.path().join("img/google/sheets")).unwrap();
    sheet.save(folder.path().join("img/google/sheets/20.png")).unwrap();

    let files = Emoji::open(folder.path(), EmojiSet::Google, EmojiImages::Files, &[]).unwrap();
    assert_eq!(files.names(), ["french fries", "egypt flag", "rose"].map(|name| Some(name.to_owned())));
    let fries = files.sample(0).unwrap();
    assert_eq!(
        (asked(&fries)[0], first_pixel(&fries)),
        (("What is shown?", "french fries"), [255, 127, 127])
    );
    assert_eq!(fries.picture.unwrap().image().unwrap().as_rgb()[3..6], [255; 3]);

    let from_sheet = EmojiImages::Sheet(SheetSide::Pixels20);
    let cells = Emoji::open(folder.path(), EmojiSet::Google, from_sheet, &["Flags"]).unwrap();
    assert_eq!(cells.len(), 2);
    let rose = cells.sample(1).unwrap();
    assert_eq!((rose.questions[0].answer.as_str(), first_pixel(&rose)), ("rose", [10, 20, 30]));
    assert!(Emoji::open(folder.path(), EmojiSet::Twitter, from_sheet, &[]).is_err());
    let misspelt =
        Emoji::open(folder.path(), EmojiSet::Google, from_sheet, &["flags"]).err().unwrap().to_string();
    assert!(misspelt.contains("no category \"flags\"") && misspelt.contains("Flags"), "{misspelt}");
    let outside = folder.path().join("img/google/sheets/20.png");
    RgbaImage::new(22, 22).save(outside).unwrap();
    let cells = Emoji::open(folder.path(), EmojiSet::Google, from_sheet, &[]).unwrap();
    let error = cells.sample(2).unwrap().picture.unwrap().image().unwrap_err().to_string();
    assert!(error.contains("has no cell 1, 1: it is 22 x 22"), "{error}");
}

#[test]
fn a_folder_with_records_of_ones_own() {
    let folder = tempdir().unwrap();
    png(&folder.path().join("a/1.png"), 4, [5, 5, 5, 255]);
    text(
        &folder.path().join("metadata.jsonl"),
        "{\"file_name\": \"a/1.png\", \"question\": \"How many?\", \"answer\": \"2\", \"skill\": \"count\", \"split\": \"x\"}\n\
         {\"image\": \"a/1.png\", \"group\": \"g\", \"questions\": [{\"question\": \"Total?\", \"answer\": \"3\", \"family\": \"text\"}]}\n\
         {\"image\": \"a/1.png\", \"question\": \"Which?\", \"answer\": \"3\", \"skill\": \"ocr\"}\n{\"image\": \"a/1.png\"}\n",
    );
    let found = samples(&Folder::open(folder.path()).unwrap());
    let first = found[0].as_ref().unwrap();
    assert_eq!(
        (asked(first), first.questions[0].skill, first.group.as_str()),
        (vec![("How many?", "2")], Skill::Count, "a/1.png")
    );
    let second = found[1].as_ref().unwrap();
    assert_eq!(
        (second.group.as_str(), second.questions[0].family, second.questions[0].skill),
        ("g", Family::Text, Skill::Open)
    );
    assert!(
        found[2].as_ref().unwrap_err().contains("record 3: skill \"ocr\" is unknown; known are exist, count")
    );
    assert!(found[3].as_ref().unwrap_err().contains("record 4: asks nothing"));
}

#[test]
fn answers_of_other_programs_and_halves_of_a_question() {
    let folder = tempdir().unwrap();
    png(&folder.path().join("a.png"), 4, [5, 5, 5, 255]);
    let records = [
        r#""question": "How many?", "answer": 2"#,
        r#""question": "How much?", "answer": -0.5"#,
        r#""question": "Is it?", "answer": true"#,
        r#""questions": [{"question": "One?", "answer": "1"}], "question": "Two?", "answer": 2, "skill": "count""#,
        r#""question": "Which?", "answer": ["a"]"#,
        r#""question": "Which?""#,
        r#""answer": "a""#,
    ];
    let lines = records.map(|record| format!("{{\"image\": \"a.png\", {record}}}"));
    text(&folder.path().join("metadata.jsonl"), &lines.join("\n"));
    let found = samples(&Folder::open(folder.path()).unwrap());
    let asked = |nth: usize| asked(found[nth].as_ref().unwrap());
    assert_eq!(asked(0), [("How many?", "2")]);
    assert_eq!(asked(1), [("How much?", "-0.5")]);
    assert_eq!(asked(2), [("Is it?", "yes")]);
    assert_eq!(asked(3), [("One?", "1"), ("Two?", "2")]);
    let skills = found[3].as_ref().unwrap().questions.iter().map(|question| question.skill);
    assert!(skills.eq([Skill::Count; 2]), "the record's skill is that of its questions");
    for (nth, told) in [
        (4, "a text, a number, true or false"),
        (5, "has \"question\" and no \"answer\""),
        (6, "no \"question\""),
    ] {
        let error = found[nth].as_ref().unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_conversation_shows_no_image_that_it_does_not_name() {
    let folder = tempdir().unwrap();
    let record = |image: &str, said: &str| {
        let answer = r#"{"from": "gpt", "value": "Red."}"#;
        format!(r#"{{{image}"conversations": [{{"from": "human", "value": "{said}"}}, {answer}]}}"#)
    };
    let records = [
        record("", r"<image>\nWhat colour is the bus?"),
        record(r#""image": "a.png", "#, r"<image><image>\nWhich is it?"),
        record(r#""image": "a.png", "#, "What is it?"),
        record("", "What is red?"),
    ];
    let cut = |name: &str, order: [usize; 4]| {
        let ordered: Vec<&str> = order.iter().map(|nth| records[*nth].as_str()).collect();
        let path = folder.path().join(name);
        text(&path, &format!("[{}]", ordered.join(", ")));
        let found = samples(&Llava::open(&path, folder.path()).unwrap());
        let groups: std::collections::BTreeSet<String> =
            found.iter().filter_map(|sample| Some(sample.as_ref().ok()?.group.clone())).collect();
        (found, groups)
    };
    let (found, groups) = cut("mix.json", [0, 1, 2, 3]);
    assert!(found[0].as_ref().unwrap_err().contains("1: shows 1 images, and names 0"));
    assert!(found[1].as_ref().unwrap_err().contains("2: shows 2 images, and names 1"));
    assert!(found[2].as_ref().unwrap().picture.is_some() && found[3].as_ref().unwrap().picture.is_none());
    // Cuts are made by group: wherever the file lies, whatever its order.
    assert_eq!(groups, cut("elsewhere/other.json", [3, 2, 1, 0]).1);
}

#[test]
fn broken_images_and_records_are_counted_and_named() {
    let folder = tempdir().unwrap();
    let mut records = Vec::new();
    for i in 0..50 {
        png(&folder.path().join(format!("{i}.png")), 4, [i, 0, 0, 255]);
        records.push(format!("{{\"image\": \"{i}.png\", \"question\": \"Which?\", \"answer\": \"{i}\"}}"));
    }
    write(folder.path().join("20.png"), b"\x89PNG\r\n\x1a\nbut no more").unwrap();
    std::fs::remove_file(folder.path().join("30.png")).unwrap();
    records[40] = "{\"image\": ".to_owned();
    text(&folder.path().join("metadata.jsonl"), &records.join("\n"));
    let source: Arc<dyn Source> = Arc::new(Folder::open(folder.path()).unwrap());
    let order = Order::Shuffled { seed: 3, epoch: 1 };
    let mut stream = Stream::new(source.clone(), order, Tolerance { fraction: 0.06 }).decoded();
    for item in stream.by_ref() {
        let (sample, image) = item.unwrap();
        assert_eq!(image.unwrap().as_rgb()[0].to_string(), sample.questions[0].answer);
    }
    let skipped = stream.stream().skipped();
    assert_eq!(skipped.count, 3);
    for name in ["20.png", "30.png", "metadata.jsonl record 41"] {
        assert!(
            skipped.examples.iter().any(|example| example.contains(name)),
            "{name} in {:?}",
            skipped.examples
        );
    }
    let mut strict = Stream::new(source, order, Tolerance { fraction: 0.05 }).decoded();
    let error = strict.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("3 of its 50 samples are broken, tolerated are 2 (0.05 of them)"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Damaged record files give samples, errors of samples, or an error on opening.
    #[test]
    fn no_importer_panics_on_damaged_records(
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let folder = tempdir().unwrap();
        let damage = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(1 + cut.index(2 * bytes.len()));
            bytes
        };
        let write = |name: &str, text: &str| write(folder.path().join(name), damage(text)).unwrap();
        write("metadata.jsonl", "{\"image\": \"a.png\", \"questions\": [{\"question\": \"Total?\", \"answer\": \"3\"}]}\n{\"image\": 3}\n");
        write("train.jsonl", "{\"image\": \"a.png\", \"images\": [\"a.png\"], \"text\": \"x\", \"sentence\": \"x\", \"label\": true}\n{}\n");
        write("mix.json", "[{\"image\": \"a.png\", \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}]");
        write("emoji.json", "[{\"name\": \"ROSE\", \"image\": \"a.png\", \"category\": \"Flags\", \"sheet_x\": 1, \"sheet_y\": 4, \
            \"has_img_apple\": true, \"has_img_google\": true, \"has_img_twitter\": true, \"has_img_facebook\": true}]");
        create_dir_all(folder.path().join("data/train")).unwrap();
        write("data/train/questions.json", "[[\"what is it?\", \"red\", 0], [\"is it?\", \"no\", 10]]");
        let path = folder.path();
        let sources: [Option<Box<dyn Source>>; 6] = [
            Folder::open(path).ok().map(|source| Box::new(source) as _),
            Nlvr::open(path, NlvrSplit::Train).ok().map(|source| Box::new(source) as _),
            TextLines::open(path, TextLinesSplit::Train).ok().map(|source| Box::new(source) as _),
            Llava::open(&path.join("mix.json"), path).ok().map(|source| Box::new(source) as _),
            Emoji::open(path, EmojiSet::Google, EmojiImages::Files, &[]).ok().map(|source| Box::new(source) as _),
            EasyVqa::open(path, EasyVqaSplit::Train).ok().map(|source| Box::new(source) as _),
        ];
        for source in sources.into_iter().flatten() {
            for sample in samples(&*source).into_iter().flatten() {
                prop_assert!(!sample.questions.is_empty());
                // The image is not there: an error that names it.
                prop_assert!(sample.picture.is_none_or(|picture| picture.image().is_err()));
            }
        }
    }
}
