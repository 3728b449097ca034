//! One question as a task asks it.

use foveate_data::{Family, Picture};

use crate::metric::Expected;

/// A question with its pictures and what is expected.
#[derive(Clone, Debug)]
pub struct Item {
    /// Unique within the task.
    pub id: String,
    /// What varies together: the picture, the receipt, the sentence. The bootstrap draws whole groups.
    pub group: String,
    /// Items that only count together: the turns of a circular question, the two questions of a picture of MME.
    pub unit: String,
    /// In the order in which the question refers to them; decoded when they are looked at.
    pub pictures: Vec<Picture>,
    /// The question alone.
    pub question: String,
    /// What is to be chosen from; empty for a free answer.
    pub options: Vec<String>,
    /// The right answer.
    pub expected: Expected,
    /// What it asks for: a skill, a subtask, a category.
    pub skill: String,
    /// The family it is scored under.
    pub family: Family,
}
