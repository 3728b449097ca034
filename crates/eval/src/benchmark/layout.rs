//! The columns of each benchmark, under the names of its own files and of those on the hub.

use super::Benchmark;

/// Where a benchmark keeps what; of several names the first that a file has is read.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The question's number.
    pub id: &'static [&'static str],
    /// The question.
    pub question: &'static [&'static str],
    /// What stands in front of it, where there is something.
    pub hint: &'static [&'static str],
    /// The picture: its bytes or its file's name.
    pub picture: &'static [&'static str],
    /// The picture's number, which groups questions; where no column holds the picture, `file` has its name.
    pub picture_id: &'static [&'static str],
    /// Names of the picture's file with columns in braces: `{image_id:12}` is filled up with zeros. The first that exists.
    pub file: &'static [&'static str],
    /// Whether there are records without a picture, which are left out: they say nothing about visual tokens.
    pub may_be_blind: bool,
    /// The right answer.
    pub answers: Answers,
    /// The part of the dataset that a record belongs to, where one file holds several.
    pub split: &'static [&'static str],
    /// What the question asks for: a subtask, a category.
    pub skill: &'static [&'static str],
}

/// How the right answer is written.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// Texts, any of which is right, or one for each person asked.
    Texts(&'static [&'static str]),
    /// Yes or no.
    YesNo(&'static [&'static str]),
    /// A list of options, and the number (from 0) or the letter of the right one.
    Listed {
        /// The options.
        options: &'static [&'static str],
        /// The right one.
        answer: &'static [&'static str],
    },
    /// Options in the columns A, B, C, D, and a letter; each option is put in each place once.
    Lettered(&'static [&'static str]),
    /// A list of options with a letter, or no options and texts (MMMU).
    ListedOrOpen {
        /// The options.
        options: &'static [&'static str],
        /// The letter or text.
        answer: &'static [&'static str],
    },
    /// A list of options with the text of the right one, or a number with its precision, or a text (MathVista).
    MathVista,
}

/// What most files share.
const PLAIN: Layout = Layout {
    id: &["question_id", "id", "index"],
    question: &["question"],
    hint: &[],
    picture: &["image"],
    picture_id: &["image_id", "image"],
    file: &[],
    may_be_blind: false,
    answers: Answers::Texts(&["answers"]),
    split: &[],
    skill: &[],
};

pub(super) fn of(benchmark: Benchmark) -> Layout {
    match benchmark {
        Benchmark::VqaV2 => Layout {
            file: &["COCO_val2014_{image_id:12}.jpg", "{image_id:12}.jpg"],
            skill: &["answer_type"],
            ..PLAIN
        },
        Benchmark::Gqa => Layout {
            id: &["id", "question_id"],
            picture_id: &["imageId", "image_id"],
            file: &["{imageId}.jpg"],
            answers: Answers::Texts(&["answer"]),
            ..PLAIN
        },
        Benchmark::TextVqa => Layout { file: &["{image_id}.jpg"], ..PLAIN },
        Benchmark::VizWiz => Layout { skill: &["answer_type", "category"], ..PLAIN },
        Benchmark::Pope => Layout {
            question: &["question", "text"],
            picture_id: &["image_source", "image"],
            answers: Answers::YesNo(&["answer", "label"]),
            skill: &["category"],
            ..PLAIN
        },
        Benchmark::Mme => Layout {
            picture_id: &["question_id", "image"],
            answers: Answers::YesNo(&["answer"]),
            skill: &["category"],
            ..PLAIN
        },
        Benchmark::MmBench => Layout {
            id: &["index"],
            hint: &["hint"],
            picture_id: &["index"],
            answers: Answers::Lettered(&["answer"]),
            skill: &["l2-category", "L2-category", "category"],
            ..PLAIN
        },
        Benchmark::ScienceQa => Layout {
            id: &["id", "pid"],
            hint: &["hint"],
            picture_id: &["id"],
            file: &["{split}/{id}/{image}", "{id}/{image}"],
            may_be_blind: true,
            split: &["split"],
            answers: Answers::Listed { options: &["choices"], answer: &["answer"] },
            skill: &["subject"],
            ..PLAIN
        },
        Benchmark::Ai2d => {
            Layout { answers: Answers::Listed { options: &["options"], answer: &["answer"] }, ..PLAIN }
        }
        Benchmark::Mmmu => Layout {
            picture: &["image_1", "image"],
            picture_id: &["id"],
            answers: Answers::ListedOrOpen { options: &["options"], answer: &["answer"] },
            skill: &["subfield"],
            ..PLAIN
        },
        Benchmark::MathVista => Layout {
            id: &["pid"],
            picture: &["decoded_image", "image"],
            picture_id: &["image"],
            answers: Answers::MathVista,
            skill: &["question_type"],
            ..PLAIN
        },
        Benchmark::ChartQa => Layout {
            question: &["question", "query"],
            picture: &["image", "imgname"],
            picture_id: &["imgname"],
            answers: Answers::Texts(&["answer", "label"]),
            skill: &["type", "human_or_machine"],
            ..PLAIN
        },
        Benchmark::DocVqa => Layout {
            id: &["questionId", "question_id"],
            picture_id: &["docId", "image"],
            skill: &["question_types"],
            ..PLAIN
        },
    }
}
