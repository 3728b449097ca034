//! Every benchmark in the layout of its own files and, where that differs, of those on the hub: small records written here as
//! their documentation describes them.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveate_eval::EvalError;
use foveate_eval::benchmark::Benchmark;
use foveate_eval::metric::Expected;
use foveate_eval::task::{BenchmarkFiles, TaskSpec};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images").join(name)
}

fn texts(list: &[&str]) -> Expected {
    Expected::Texts(list.iter().map(|text| (*text).to_owned()).collect())
}

/// A record in a file of that name, what it asks and what it expects.
struct Case {
    benchmark: Benchmark,
    file: &'static str,
    text: String,
    /// Where its picture lies below the folder of pictures.
    picture: &'static str,
    asks: &'static str,
    expected: Expected,
    group: &'static str,
    skill: &'static str,
}

fn people(answer: &str) -> String {
    let one =
        |id: usize| format!(r#"{{"answer": "{answer}", "answer_confidence": "yes", "answer_id": {id}}}"#);
    (1..=10).map(one).collect::<Vec<_>>().join(", ")
}

fn cases() -> Vec<Case> {
    let word = "\nAnswer the question using a single word or phrase.";
    vec![
        Case {
            benchmark: Benchmark::VqaV2,
            file: "vqa.json",
            text: format!(
                r#"[{{"question_id": 42000, "image_id": 42, "question": "How many?", "answer_type": "number", "answers": [{}]}}]"#,
                people("2")
            ),
            picture: "COCO_val2014_000000000042.jpg",
            asks: "How many?\nAnswer the question using a single word or phrase.",
            expected: texts(&["2"; 10]),
            group: "42",
            skill: "number",
        },
        Case {
            benchmark: Benchmark::Gqa,
            file: "testdev_balanced.json",
            text: r#"{"201307251": {"imageId": "n161313", "question": "Is it overcast?", "answer": "no", "fullAnswer": "No.", "isBalanced": true}}"#.into(),
            picture: "n161313.jpg",
            asks: "Is it overcast?\nAnswer the question using a single word or phrase.",
            expected: texts(&["no"]),
            group: "n161313",
            skill: "gqa",
        },
        Case {
            benchmark: Benchmark::TextVqa,
            file: "TextVQA_val.json",
            text: r#"{"dataset_type": "val", "data": [{"question_id": 34602, "image_id": "003a8ae2ef43b901", "question": "What brand?", "answers": ["dakota", "dakota", "olive grove"]}]}"#.into(),
            picture: "003a8ae2ef43b901.jpg",
            asks: "What brand?\nAnswer the question using a single word or phrase.",
            expected: texts(&["dakota", "dakota", "olive grove"]),
            group: "003a8ae2ef43b901",
            skill: "textvqa",
        },
        Case {
            benchmark: Benchmark::VizWiz,
            file: "val.json",
            text: r#"[{"image": "VizWiz_val_00000000.jpg", "question": "What is this?", "answers": [{"answer_confidence": "yes", "answer": "soap"}], "answer_type": "other", "answerable": 1}]"#.into(),
            picture: "VizWiz_val_00000000.jpg",
            asks: "What is this?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a single word or phrase.",
            expected: texts(&["soap"]),
            group: "VizWiz_val_00000000.jpg",
            skill: "other",
        },
        Case {
            benchmark: Benchmark::Pope,
            file: "coco_pope_random.jsonl",
            text: r#"{"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?", "label": "yes"}"#.into(),
            picture: "COCO_val2014_000000310196.jpg",
            asks: "Is there a snowboard in the image?\nAnswer the question using a single word or phrase.",
            expected: Expected::YesNo(true),
            group: "COCO_val2014_000000310196.jpg",
            skill: "pope",
        },
        Case {
            benchmark: Benchmark::ScienceQa,
            file: "problems.json",
            text: r#"{"7": {"question": "Which is north?", "choices": ["Ohio", "Texas"], "answer": 0, "hint": "A map.", "image": "image.png", "subject": "social science", "split": "test"}}"#.into(),
            picture: "test/7/image.png",
            asks: "A map.\nWhich is north?\nA. Ohio\nB. Texas\nAnswer with the option's letter from the given choices directly.",
            expected: Expected::Option(0),
            group: "7",
            skill: "social science",
        },
        Case {
            benchmark: Benchmark::Ai2d,
            file: "ai2d.jsonl",
            text: r#"{"question": "Which eats grass?", "options": ["fox", "hare"], "answer": "1", "image": "0.png"}"#.into(),
            picture: "0.png",
            asks: "Which eats grass?\nA. fox\nB. hare\nAnswer with the option's letter from the given choices directly.",
            expected: Expected::Option(1),
            group: "0.png",
            skill: "ai2d",
        },
        Case {
            benchmark: Benchmark::Mmmu,
            file: "mmmu.jsonl",
            text: r#"{"id": "validation_Math_1", "question": "<image 1> What is x?", "options": "['$\\\\pi$', \"it's 2\"]", "answer": "B", "image_1": "m.png", "subfield": "Algebra", "question_type": "multiple-choice"}"#.into(),
            picture: "m.png",
            asks: "<image 1> What is x?\nA. $\\pi$\nB. it's 2\nAnswer with the option's letter from the given choices directly.",
            expected: Expected::Option(1),
            group: "validation_Math_1",
            skill: "Algebra",
        },
        Case {
            benchmark: Benchmark::Mmmu,
            file: "mmmu_open.jsonl",
            text: r#"{"id": "validation_Math_2", "question": "How much?", "options": "[]", "answer": "24.32", "image_1": "m.png", "subfield": "Finance"}"#.into(),
            picture: "m.png",
            asks: "How much?\nAnswer the question using a single word or phrase.",
            expected: texts(&["24.32"]),
            group: "validation_Math_2",
            skill: "Finance",
        },
        Case {
            benchmark: Benchmark::MathVista,
            file: "testmini.jsonl",
            text: r#"{"pid": "3", "question": "What length?", "image": "images/3.jpg", "choices": null, "precision": 1.0, "answer": "1.2", "question_type": "free_form", "answer_type": "float"}"#.into(),
            picture: "images/3.jpg",
            asks: "What length?\nAnswer the question using a single word or phrase.",
            expected: Expected::Number { value: 1.2, digits: 1 },
            group: "images/3.jpg",
            skill: "free_form",
        },
        Case {
            benchmark: Benchmark::MathVista,
            file: "testmini_choice.jsonl",
            text: r#"{"pid": "4", "question": "Which?", "image": "images/3.jpg", "choices": ["145°", "155°"], "answer": "155°", "question_type": "multi_choice", "answer_type": "text"}"#.into(),
            picture: "images/3.jpg",
            asks: "Which?\nA. 145°\nB. 155°\nAnswer with the option's letter from the given choices directly.",
            expected: Expected::Option(1),
            group: "images/3.jpg",
            skill: "multi_choice",
        },
        Case {
            benchmark: Benchmark::MathVista,
            file: "testmini_list.jsonl",
            text: r#"{"pid": "5", "question": "Which?", "image": "images/3.jpg", "choices": null, "answer": "[0, 2]", "question_type": "free_form", "answer_type": "list"}"#.into(),
            picture: "images/3.jpg",
            asks: "Which?\nAnswer the question using a single word or phrase.",
            expected: texts(&["[0, 2]"]),
            group: "images/3.jpg",
            skill: "free_form",
        },
        Case {
            benchmark: Benchmark::ChartQa,
            file: "test_human.json",
            text: r#"[{"imgname": "41699051005347.png", "query": "How many bars?", "label": "14"}]"#.into(),
            picture: "41699051005347.png",
            asks: "How many bars?\nAnswer the question using a single word or phrase.",
            expected: texts(&["14"]),
            group: "41699051005347.png",
            skill: "chartqa",
        },
        Case {
            benchmark: Benchmark::DocVqa,
            file: "val_v1.0.json",
            text: r#"{"dataset_name": "docvqa", "data": [{"questionId": 49153, "question": "What is the ratio?", "question_types": ["figure/diagram", "form"], "image": "documents/pybv0228_81.png", "docId": 14465, "answers": ["0.28", ".28"], "data_split": "val"}]}"#.into(),
            picture: "documents/pybv0228_81.png",
            asks: "What is the ratio?\nAnswer the question using a single word or phrase.",
            expected: texts(&["0.28", ".28"]),
            group: "14465",
            skill: "figure/diagram",
        },
    ]
    .into_iter()
    .inspect(|case| assert!(case.asks.ends_with("directly.") || case.asks.ends_with(word)))
    .collect()
}

fn read(benchmark: Benchmark, path: &Path) -> Result<foveate_eval::task::Task, EvalError> {
    let files = BenchmarkFiles { name: benchmark, path: path.to_owned(), images: None, split: None };
    TaskSpec::benchmark(files).open(benchmark.name())
}

#[test]
fn records_of_the_published_files_become_questions() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join(case.picture);
        std::fs::create_dir_all(picture.parent().unwrap()).unwrap();
        std::fs::copy(fixture("cat.png"), &picture).unwrap();
        let path = folder.path().join(case.file);
        std::fs::write(&path, &case.text).unwrap();
        let task = read(case.benchmark, &path).unwrap();
        let item = &task.items[0];
        assert_eq!(task.prompt.ask(item), case.asks, "{}", case.file);
        assert_eq!(item.expected, case.expected, "{}", case.file);
        assert_eq!((item.group.as_str(), item.skill.as_str()), (case.group, case.skill), "{}", case.file);
        assert!(item.pictures[0].image().unwrap().width() > 0, "{}", case.file);
        assert_eq!((task.metric, task.family), (case.benchmark.metric(), case.benchmark.family()));
    }
}

#[test]
fn a_missing_column_is_refused_by_name_for_every_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.jsonl");
    std::fs::write(&path, r#"{"caption": "a cat", "width": 3}"#).unwrap();
    for benchmark in Benchmark::ALL {
        let error = read(benchmark, &path).unwrap_err();
        let EvalError::NoColumn { place, wanted, have } = &error else { panic!("{error}") };
        assert!(place.ends_with("other.jsonl") && !wanted.is_empty());
        assert_eq!(have, &["caption", "width"]);
        assert!(error.to_string().ends_with("; it has caption, width"), "{error}");
    }
}

#[test]
fn records_whose_answers_are_kept_back_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("cat.png"), folder.path().join("a.png")).unwrap();
    let path = folder.path().join("docvqa.jsonl");
    let record = |id: u32, answers: &str| {
        format!(r#"{{"questionId": {id}, "question": "?", "image": "a.png", "answers": {answers}}}"#)
    };
    std::fs::write(&path, [record(1, "null"), record(2, r#"["x"]"#), record(3, "[]")].join("\n")).unwrap();
    let task = read(Benchmark::DocVqa, &path).unwrap();
    assert_eq!((task.items.len(), task.without_reference, task.items[0].id.as_str()), (1, 2, "2"));
    std::fs::write(&path, record(1, "null")).unwrap();
    let error = read(Benchmark::DocVqa, &path).unwrap_err().to_string();
    assert!(error.contains("none of its 1 records") && error.contains("kept back"), "{error}");
}

#[test]
fn a_circular_question_turns_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let picture = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        std::fs::read(fixture("cat.png")).unwrap(),
    );
    let path = folder.path().join("mmbench_dev_en.tsv");
    let text = format!(
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\n241\tWhat?\tLook.\tcat\tdog\tcow\t\tB\tnature\t{picture}\n"
    );
    std::fs::write(&path, text).unwrap();
    let task = read(Benchmark::MmBench, &path).unwrap();
    assert_eq!(task.items.len(), 3, "as many turns as options");
    for item in &task.items {
        let Expected::Option(right) = item.expected else { panic!() };
        assert_eq!(item.options[right], "dog");
        assert_eq!((item.unit.as_str(), item.question.as_str()), ("241", "Look.\nWhat?"));
        assert!(item.pictures[0].image().unwrap().height() > 0);
    }
    let ids: Vec<&str> = task.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["241+0", "241+1", "241+2"]);

    // Published files hold the turns as records of their own, and what is absent as pandas writes it.
    let record = |index: u32, options: &str, answer: &str| {
        format!("{index}\tWhat?\tnan\t{options}\tnan\t{answer}\tnature\t{picture}\n")
    };
    let head = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\n";
    let (own, turned) = ("cat\tdog\tcow", "dog\tcow\tcat");
    let text =
        format!("{head}{}{}{}", record(241, own, "B"), record(1_000_241, turned, "A"), record(7, own, "nan"));
    std::fs::write(&path, text).unwrap();
    let again = read(Benchmark::MmBench, &path).unwrap();
    assert_eq!((again.items.len(), again.without_reference), (3, 1));
    for (found, item) in again.items.iter().zip(&task.items) {
        assert_eq!(found.question, "What?");
        assert_eq!((&found.id, &found.options, &found.expected), (&item.id, &item.options, &item.expected));
    }
}

#[test]
fn of_a_file_with_all_splits_one_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problems.json");
    let problem = |split: &str| {
        format!(
            r#""{split}": {{"question": "?", "choices": ["a", "b"], "answer": 1, "hint": "", "image": "image.png", "split": "{split}"}}"#
        )
    };
    let all = ["train", "val", "test"].map(problem).join(", ");
    std::fs::write(&path, format!("{{{all}}}")).unwrap();
    let ids = |split: &str| -> Result<Vec<String>, String> {
        let read =
            Benchmark::ScienceQa.read(&path, folder.path(), split).map_err(|error| error.to_string())?;
        Ok(read.items.into_iter().map(|item| item.id).collect())
    };
    assert_eq!(ids("test").unwrap(), ["test"]);
    assert_eq!(ids("validation").unwrap(), ["val"]);
    let error = ids("minival").unwrap_err();
    assert!(error.ends_with("holds nothing of split minival; it has test, train, val"), "{error}");
}

#[test]
fn lines_of_records_are_read_whatever_the_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coco_pope_random.json");
    let line = |id: u32, label: &str| {
        format!(r#"{{"question_id": {id}, "image": "a.jpg", "text": "Is there a dog?", "label": "{label}"}}"#)
    };
    std::fs::write(&path, [line(1, "yes"), line(2, "no")].join("\n")).unwrap();
    let expected: Vec<Expected> =
        read(Benchmark::Pope, &path).unwrap().items.into_iter().map(|item| item.expected).collect();
    assert_eq!(expected, [Expected::YesNo(true), Expected::YesNo(false)]);
    for broken in ["", "[{\"question_id\": 1},\n", "yes\nno"] {
        std::fs::write(&path, broken).unwrap();
        let error = read(Benchmark::Pope, &path).unwrap_err().to_string();
        assert!(error.contains("coco_pope_random.json: no JSON"), "{broken:?}: {error}");
    }
}

#[test]
fn any_of_several_answers_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mmmu.jsonl");
    for (answer, read_as) in
        [("['24/7', '3.429']", vec!["24/7", "3.429"]), ("[0, 1]", vec!["[0, 1]"]), ("9", vec!["9"])]
    {
        let record = format!(
            r#"{{"id": "a", "question": "<image 1> How many?", "options": "[]", "answer": "{answer}", "image_1": "a.png"}}"#
        );
        std::fs::write(&path, record).unwrap();
        assert_eq!(read(Benchmark::Mmmu, &path).unwrap().items[0].expected, texts(&read_as), "{answer}");
    }
}

fn hub_file(path: &Path, message: &str, rows: &[(&str, &str, Option<&str>)]) {
    compressed_hub_file(path, message, rows, Compression::UNCOMPRESSED);
}

/// Questions as the hub stores them, two to a row group, pictures as `{bytes, path}`, some of them absent.
fn compressed_hub_file(path: &Path, message: &str, rows: &[(&str, &str, Option<&str>)], by: Compression) {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(by).build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    for rows in rows.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        let bytes = |text: &str| ByteArray::from(text.as_bytes().to_vec());
        let mut texts = |values: Vec<ByteArray>| {
            let mut column = group.next_column().unwrap().unwrap();
            let levels = vec![1; values.len()];
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        };
        texts(rows.iter().map(|(question, ..)| bytes(question)).collect());
        texts(rows.iter().map(|(_, answer, _)| bytes(answer)).collect());
        let mut column = group.next_column().unwrap().unwrap();
        let pictures: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(.., picture)| Some(ByteArray::from(std::fs::read(fixture((*picture)?)).unwrap())))
            .collect();
        let levels: Vec<i16> =
            rows.iter().map(|(.., picture)| if picture.is_some() { 2 } else { 0 }).collect();
        column.typed::<ByteArrayType>().write_batch(&pictures, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|(.., picture)| i16::from(picture.is_some())).collect();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let numbers: Vec<i64> = (0..rows.len() as i64).collect();
        column.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const HUB: &str = "message schema {
    optional binary question (UTF8);
    optional binary answer (UTF8);
    optional group image { optional binary bytes; optional binary path (UTF8); }
    required int64 width;
}";

#[test]
fn pictures_inside_of_parquet_are_read_when_they_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test-00000-of-00001.parquet");
    let rows = [
        ("Is it a cat?", "yes", Some("cat.png")),
        ("Is it wide?", "no", Some("coffee-wide.png")),
        ("Is it lost?", "no", None),
        ("Is it grey?", "yes", Some("grey.png")),
        ("Is it small?", "no", Some("cat.png")),
    ];
    hub_file(&path, HUB, &rows);
    let task = read(Benchmark::Pope, folder.path()).unwrap();
    assert_eq!(task.items.len(), 5);
    // Nothing names the pictures, so that their bytes tell which questions are about one.
    let group = |nth: usize| &task.items[nth].group;
    assert!(group(0) != group(1) && group(0) != group(3) && *group(2) == task.items[2].id);
    assert_eq!(group(0), group(4));
    let expected: Vec<bool> = task.items.iter().map(|item| item.expected == Expected::YesNo(true)).collect();
    assert_eq!(expected, [true, false, false, true, false]);
    // In any order, over both row groups.
    for nth in [3, 0, 1, 3, 0] {
        let image = task.items[nth].pictures[0].image().unwrap();
        let same =
            foveate_data::image::decode_file(&fixture(rows[nth].2.unwrap()), &Default::default()).unwrap();
        assert_eq!(image.as_rgb(), same.as_rgb(), "{nth}");
    }
    let lost = task.items[2].pictures[0].image().unwrap_err().to_string();
    assert!(lost.contains("record 3, column image") && lost.contains("there is no picture"), "{lost}");

    // By whatever it was written with: pandas takes Snappy, Polars zstd.
    let plain = std::fs::read(&path).unwrap();
    let expected = [0, 1, 3].map(|nth| (nth, task.items[nth].pictures[0].image().unwrap()));
    for by in [
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
    ] {
        compressed_hub_file(&path, HUB, &rows, by);
        assert_ne!(std::fs::read(&path).unwrap(), plain, "{by}");
        let again = read(Benchmark::Pope, folder.path()).unwrap();
        assert_eq!(again.items.len(), 5, "{by}");
        for (found, item) in again.items.iter().zip(&task.items) {
            assert_eq!((&found.question, &found.expected), (&item.question, &item.expected), "{by}");
        }
        for (nth, picture) in &expected {
            assert_eq!(again.items[*nth].pictures[0].image().unwrap().as_rgb(), picture.as_rgb(), "{by}");
        }
    }

    hub_file(&path, &HUB.replace("answer (UTF8)", "solution (UTF8)"), &rows);
    let error = read(Benchmark::Pope, folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("no column answer or label; it has question, solution, width, image"), "{error}");
    std::fs::write(&path, b"PAR1 and no more").unwrap();
    assert!(read(Benchmark::Pope, &path).unwrap_err().to_string().contains("test-00000-of-00001.parquet"));
}

#[test]
fn a_limit_keeps_what_counts_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("cat.png"), folder.path().join("a.png")).unwrap();
    let path = folder.path().join("mme.jsonl");
    let record = |picture: usize, answer: &str| {
        format!(
            r#"{{"question_id": "count/{picture}.png", "image": "a.png", "question": "?", "answer": "{answer}", "category": "count"}}"#
        )
    };
    let lines: Vec<String> =
        (0..20).flat_map(|picture| [record(picture, "Yes"), record(picture, "No")]).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    let files = BenchmarkFiles { name: Benchmark::Mme, path, images: None, split: None };
    let open =
        |seed| TaskSpec { limit: Some(5), seed, ..TaskSpec::benchmark(files.clone()) }.open("mme").unwrap();
    let ids = |seed| open(seed).items.into_iter().map(|item| item.id).collect::<Vec<_>>();
    assert_eq!(ids(1).len(), 10);
    assert_eq!(ids(1)[1], format!("{}#2", ids(1)[0]));
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1), ids(2));
}

/// A release of MME: texts beside pictures, texts apart from them, and the lists that its scorer reads.
#[test]
fn mme_is_read_as_its_authors_publish_it() {
    let release = tempfile::tempdir().unwrap();
    let put = |path: &str, text: Option<&str>| {
        let path = release.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => _ = std::fs::copy(fixture("cat.png"), path).unwrap(),
        }
    };
    let two = "Is it a cat? Please answer yes or no.\tYes\r\nIs it a dog? Please answer yes or no.\tNo\r\n";
    put("color/0007.png", None);
    put("color/0007.txt", Some(two));
    put("artwork/images/31.png", None);
    put("artwork/questions_answers_YN/31.txt", Some(two));
    put("eval_tool/Your_Results/color.txt", Some("0007.png\tIs it a cat?\tYes\tYes\n"));
    let task = read(Benchmark::Mme, release.path()).unwrap();
    let ids: Vec<&str> = task.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["artwork/31.png", "artwork/31.png#2", "color/0007.png", "color/0007.png#2"]);
    for (item, right) in task.items.iter().zip([true, false, true, false]) {
        assert_eq!(item.expected, Expected::YesNo(right));
        assert!(item.id.starts_with(&item.unit) && item.unit.starts_with(&item.skill), "{item:?}");
        assert!(item.question.ends_with("yes or no.") && item.pictures[0].image().unwrap().width() > 0);
    }

    // The list of a subtask, with pictures elsewhere.
    let lists = release.path().join("eval_tool/Your_Results");
    let files = BenchmarkFiles {
        name: Benchmark::Mme,
        path: lists.clone(),
        images: Some(release.path().to_owned()),
        split: None,
    };
    let listed = TaskSpec::benchmark(files).open("mme").unwrap();
    assert_eq!((listed.items.len(), listed.items[0].skill.as_str()), (1, "color"));
    assert!(listed.items[0].pictures[0].image().unwrap().width() > 0);

    put("eval_tool/Your_Results/count.txt", Some("no tabs at all\n"));
    let error = read(Benchmark::Mme, &lists).unwrap_err().to_string();
    assert!(error.contains("count.txt line 1") && error.contains("has 1 column"), "{error}");
    put("eval_tool/Your_Results/count.txt", Some("a.png\tIs it?\tPerhaps\n"));
    let error = read(Benchmark::Mme, &lists).unwrap_err().to_string();
    assert!(error.contains("\"Perhaps\"") && error.contains("yes or no"), "{error}");
}

/// The hub keeps GQA's questions and its pictures in files of their own, several questions about a picture.
#[test]
fn gqa_finds_its_pictures_in_the_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let instructions = folder.path().join("testdev_balanced_instructions");
    let pictures = folder.path().join("testdev_balanced_images");
    std::fs::create_dir(&instructions).unwrap();
    std::fs::create_dir(&pictures).unwrap();
    let record = |id: u32, image: &str, answer: &str| {
        format!(
            r#"{{"id": "{id}", "imageId": "{image}", "question": "Is it {id}?", "answer": "{answer}", "isBalanced": true}}"#
        )
    };
    let lines = [record(1, "n9", "yes"), record(2, "n7", "no"), record(3, "n9", "left")];
    std::fs::write(instructions.join("testdev-00000.jsonl"), lines.join("\n")).unwrap();
    let images =
        [("n7", "-", Some("cat.png")), ("n8", "-", Some("cat.png")), ("n9", "-", Some("coffee-wide.png"))];
    let path = pictures.join("testdev-00000.parquet");
    hub_file(&path, &HUB.replace("question (UTF8)", "id (UTF8)"), &images);
    let task = read(Benchmark::Gqa, folder.path()).unwrap();
    for (item, (id, group, file)) in task.items.iter().zip([
        ("1", "n9", "coffee-wide.png"),
        ("2", "n7", "cat.png"),
        ("3", "n9", "coffee-wide.png"),
    ]) {
        let shown = foveate_data::image::decode_file(&fixture(file), &Default::default()).unwrap();
        assert_eq!((item.id.as_str(), item.group.as_str()), (id, group));
        assert_eq!(item.pictures[0].image().unwrap().as_rgb(), shown.as_rgb(), "{id}");
    }
    assert_eq!(task.items.len(), 3);
    assert_eq!(task.items[2].expected, texts(&["left"]));
    // A picture that is in no file may lie beside them, and is named where it does not.
    std::fs::write(instructions.join("testdev-00000.jsonl"), record(1, "n1", "yes")).unwrap();
    let task = read(Benchmark::Gqa, folder.path()).unwrap();
    let lost = task.items[0].pictures[0].image().unwrap_err().to_string();
    assert!(lost.contains("n1.jpg"), "{lost}");
}

/// ScienceQA on the hub: lists of choices, numbers for answers, and many records without a picture.
#[test]
fn scienceqa_leaves_out_what_has_no_picture() {
    const MESSAGE: &str = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional binary question (UTF8);
        optional group choices (LIST) { repeated group list { optional binary element (UTF8); } }
        optional int64 answer;
        optional binary hint (UTF8);
    }";
    /// Picture, question, choices, answer, hint.
    type Row = (Option<&'static str>, &'static str, &'static [&'static str], i64, &'static str);
    let rows: [Row; 3] = [
        (Some("cat.png"), "Which is north?", &["Ohio", "Texas", "Iowa"], 2, ""),
        (None, "Which is heavier?", &["lead", "wood"], 0, ""),
        (Some("grey.png"), "Which is grey?", &["this", "that"], 0, "Look at the picture."),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test-00000-of-00001.parquet");
    let schema = Arc::new(parse_message_type(MESSAGE).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let bytes = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    let mut texts_of = |values: Vec<ByteArray>, levels: Vec<i16>, repeats: Option<Vec<i16>>| {
        let mut column = group.next_column().unwrap().unwrap();
        let column_writer = column.typed::<ByteArrayType>();
        column_writer.write_batch(&values, Some(&levels), repeats.as_deref()).unwrap();
        column.close().unwrap();
    };
    let pictures =
        rows.iter().filter_map(|row| Some(ByteArray::from(std::fs::read(fixture(row.0?)).unwrap())));
    texts_of(pictures.collect(), rows.iter().map(|row| if row.0.is_some() { 2 } else { 0 }).collect(), None);
    texts_of(Vec::new(), rows.iter().map(|row| i16::from(row.0.is_some())).collect(), None);
    texts_of(rows.iter().map(|row| bytes(row.1)).collect(), vec![1; rows.len()], None);
    let choices: Vec<&str> = rows.iter().flat_map(|row| row.2.iter().copied()).collect();
    let repeats: Vec<i16> =
        rows.iter().flat_map(|row| (0..row.2.len()).map(|nth| i16::from(nth > 0))).collect();
    texts_of(choices.iter().map(|choice| bytes(choice)).collect(), vec![3; choices.len()], Some(repeats));
    let mut column = group.next_column().unwrap().unwrap();
    let answers: Vec<i64> = rows.iter().map(|row| row.3).collect();
    column.typed::<Int64Type>().write_batch(&answers, Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let hints: Vec<ByteArray> = rows.iter().map(|row| bytes(row.4)).collect();
    column.typed::<ByteArrayType>().write_batch(&hints, Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let task = read(Benchmark::ScienceQa, folder.path()).unwrap();
    assert_eq!((task.items.len(), task.without_reference), (2, 0));
    assert_eq!(task.items[0].options, ["Ohio", "Texas", "Iowa"]);
    assert_eq!(task.items[0].expected, Expected::Option(2));
    assert_eq!(task.items[1].question, "Look at the picture.\nWhich is grey?");
    assert_eq!(
        task.items[1].pictures[0].image().unwrap().as_rgb(),
        foveate_data::image::decode_file(&fixture("grey.png"), &Default::default()).unwrap().as_rgb()
    );
    // An answer that no choice has.
    let path = folder.path().join("problems.json");
    std::fs::copy(fixture("cat.png"), folder.path().join("image.png")).unwrap();
    let problem = r#"{"7": {"question": "?", "choices": ["a", "b"], "answer": 2, "hint": "", "image": "image.png", "split": "test"}}"#;
    std::fs::write(&path, problem).unwrap();
    let error = read(Benchmark::ScienceQa, &path).unwrap_err().to_string();
    assert!(error.contains("answers \"2\"; one of its 2 options is expected"), "{error}");
}
