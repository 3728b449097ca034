//! A sample as the language model reads it: token ids, the image's place, and which tokens are answers.
//!
//! The prompt is the model's own, ending where the assistant is to speak; the answer's tokens and the end token follow.
//! Only these carry loss. Prompt and answer are turned into tokens apart, as they are when the model is used, so that no
//! token joins the end of one with the beginning of the other.

use foveate_data::prompt::{ChatTemplate, Message, Prompt};
use foveate_data::{Question, Sample};
use foveate_model::generate::prompt_tokens;
use foveate_model::vlm::Segment;
use tokenizers::Tokenizer;

use crate::{Result, TrainError};

/// A position of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A token that is given.
    Given(u32),
    /// A token that the model must say.
    Answer(u32),
    /// The image, whatever number of tokens it becomes.
    Image,
}

/// One question with its answer, or one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The picture, by its place in the batch; `None` for text alone.
    pub picture: Option<usize>,
    /// What a compressor reads of the first question: its text alone, as the program does.
    pub question: Vec<u32>,
    /// The prompt and the answers.
    pub slots: Vec<Slot>,
}

impl Example {
    /// Tokens that carry loss.
    pub fn answers(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Answer(_))).count()
    }
}

/// What turns samples into examples.
#[derive(Clone, Copy)]
pub struct Encoder<'a> {
    /// Text to tokens.
    pub tokenizer: &'a Tokenizer,
    /// Questions to prompts.
    pub template: &'a ChatTemplate,
    /// What ends an answer.
    pub end_token: u32,
}

impl Encoder<'_> {
    /// The examples of a sample whose questions are `chosen`: one for each, or one in all for a conversation.
    ///
    /// # Errors
    /// [`TrainError::Sample`] for a question or an answer without text, and for a template that rewrites what was said.
    pub fn examples(
        &self,
        sample: &Sample,
        chosen: &[&Question],
        picture: Option<usize>,
    ) -> Result<Vec<Example>> {
        if sample.conversation {
            return Ok(vec![self.example(
                &sample.name,
                &sample.questions.iter().collect::<Vec<_>>(),
                picture,
            )?]);
        }
        chosen.iter().map(|question| self.example(&sample.name, &[*question], picture)).collect()
    }

    fn example(&self, name: &str, turns: &[&Question], picture: Option<usize>) -> Result<Example> {
        let refuse = |reason: &str| TrainError::Sample { name: name.to_owned(), reason: reason.to_owned() };
        let first = turns.first().ok_or_else(|| refuse("it has no question"))?;
        let images = usize::from(picture.is_some());
        let image_token = self.template.image_token();
        let mut messages = Vec::new();
        let mut slots = Vec::new();
        let mut written = String::new();
        for (nth, turn) in turns.iter().enumerate() {
            let answer = turn.answer.trim();
            if self.said(&turn.text).is_empty() || answer.is_empty() {
                return Err(refuse("a question and an answer need text"));
            }
            messages.push(Message::user(turn.text.as_str()));
            let prompt = self.template.render(&messages, images)?;
            let text = prompt.text(image_token);
            let given = if nth == 0 {
                self.prompt(&prompt, image_token)?
            } else {
                let new = text
                    .strip_prefix(&written)
                    .ok_or_else(|| refuse("the template rewrites earlier turns"))?;
                self.ids(new, false)?.into_iter().map(Slot::Given).collect()
            };
            // Between two turns the template writes what ends an answer.
            let closes = nth > 0 && given.first() == Some(&Slot::Given(self.end_token));
            slots.extend(closes.then_some(Slot::Answer(self.end_token)));
            slots.extend(given.into_iter().skip(usize::from(closes)));
            slots.extend(self.ids(answer, false)?.into_iter().map(Slot::Answer));
            written = text + answer;
            messages.push(Message::assistant(answer));
        }
        slots.push(Slot::Answer(self.end_token));
        let question = self.question(&first.text)?;
        Ok(Example { picture, question, slots })
    }

    /// What a compressor reads of a question: its text alone, as the program does.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn question(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(&self.said(text), true)
    }

    /// A question without the places of images.
    fn said(&self, text: &str) -> String {
        text.replace(self.template.image_token(), " ").trim().to_owned()
    }

    /// A rendered prompt, as a model that is used reads it.
    fn prompt(&self, prompt: &Prompt, image_token: &str) -> Result<Vec<Slot>> {
        let segments = prompt_tokens(self.tokenizer, prompt, image_token)?;
        let slots = segments.into_iter().flat_map(|segment| match segment {
            Segment::Image => vec![Slot::Image],
            Segment::Tokens(ids) => ids.into_iter().map(Slot::Given).collect(),
        });
        Ok(slots.collect())
    }

    fn ids(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, special);
        let encoding = encoding.map_err(|error| TrainError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use foveate_data::{Skill, image::Image};

    use super::*;
    use crate::tokenizer::{END_TOKEN, from_texts};

    const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|assistant|>\
                            {% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";

    fn tokenizer() -> Tokenizer {
        from_texts(&["what is it? a red star".to_owned(), "what is red? a star".to_owned()], 300).unwrap()
    }

    fn template() -> ChatTemplate {
        let special = BTreeMap::from([("eos_token".to_owned(), END_TOKEN.to_owned())]);
        ChatTemplate::from_jinja("test", TEMPLATE, special).unwrap()
    }

    fn sample(conversation: bool) -> Sample {
        let question = |text: &str, answer: &str| Question::new(text, answer, Skill::Open);
        Sample {
            name: "one".into(),
            group: "one".into(),
            picture: Some(Image::filled(8, 8, [0; 3]).into()),
            questions: vec![question("what is it?", "star"), question("what is red?", "it")],
            conversation,
        }
    }

    fn told(tokenizer: &Tokenizer, slots: &[Slot]) -> (String, String) {
        let text = |ids: Vec<u32>| tokenizer.decode(&ids, false).unwrap();
        let id = |slot: &Slot| match slot {
            Slot::Given(id) | Slot::Answer(id) => *id,
            Slot::Image => 1,
        };
        let answers = slots.iter().filter(|slot| matches!(slot, Slot::Answer(_))).map(id).collect();
        (text(slots.iter().map(id).collect()), text(answers))
    }

    #[test]
    fn only_answers_and_their_ends_carry_loss() {
        let (tokenizer, template) = (tokenizer(), template());
        let encoder = Encoder { tokenizer: &tokenizer, template: &template, end_token: 0 };
        let sample = sample(false);
        let chosen: Vec<&Question> = sample.questions.iter().collect();
        let examples = encoder.examples(&sample, &chosen, Some(3)).unwrap();
        let (whole, answers) = told(&tokenizer, &examples[1].slots);
        assert_eq!(whole, "<|user|><image>\nwhat is red?<|assistant|>it<|end|>");
        assert_eq!(answers, "it<|end|>");
        assert_eq!(examples[1].slots[1], Slot::Image);
        assert_eq!(examples[1].picture, Some(3));
        assert_eq!(tokenizer.decode(&examples[1].question, false).unwrap(), "what is red?");
    }

    #[test]
    fn a_conversation_is_one_example_with_every_answer() {
        let (tokenizer, template) = (tokenizer(), template());
        let encoder = Encoder { tokenizer: &tokenizer, template: &template, end_token: 0 };
        let [example] = &encoder.examples(&sample(true), &[], Some(0)).unwrap()[..] else { panic!() };
        let (whole, answers) = told(&tokenizer, &example.slots);
        assert_eq!(
            whole,
            "<|user|><image>\nwhat is it?<|assistant|>star<|end|><|user|>what is red?<|assistant|>it<|end|>"
        );
        assert_eq!(answers, "star<|end|>it<|end|>");
    }

    /// The prompt of training is the prompt of use: the same tokens up to where the answer starts.
    #[test]
    fn vicuna_prompts_are_those_of_inference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/llava-1.5/tokenizer.json");
        let (tokenizer, template) = (Tokenizer::from_file(path).unwrap(), ChatTemplate::vicuna_v1());
        let encoder = Encoder { tokenizer: &tokenizer, template: &template, end_token: 2 };
        let sample = sample(false);
        let example = &encoder.examples(&sample, &[&sample.questions[0]], Some(0)).unwrap()[0];
        let prompt = template.render(&[Message::user("what is it?")], 1).unwrap();
        let ids = tokenizer.encode(prompt.text("<image>"), true).unwrap().get_ids().to_vec();
        let given = example.slots.iter().take_while(|slot| !matches!(slot, Slot::Answer(_)));
        let given: Vec<u32> = given.map(|slot| if let Slot::Given(id) = slot { *id } else { 5 }).collect();
        assert_eq!(given, ids);
        assert_eq!(example.slots.last(), Some(&Slot::Answer(2)));
    }

    #[test]
    fn empty_answers_are_named() {
        let (tokenizer, template) = (tokenizer(), template());
        let encoder = Encoder { tokenizer: &tokenizer, template: &template, end_token: 0 };
        let mut sample = sample(false);
        sample.questions[0].answer = " ".into();
        let error = encoder.examples(&sample, &[&sample.questions[0]], None).unwrap_err().to_string();
        assert_eq!(error, "sample one: a question and an answer need text");
    }

    #[test]
    fn a_question_of_nothing_but_the_picture_is_named() {
        let (tokenizer, template) = (tokenizer(), template());
        let encoder = Encoder { tokenizer: &tokenizer, template: &template, end_token: 0 };
        let mut sample = sample(false);
        sample.questions[0].text = " <image>\n".into();
        let error = encoder.examples(&sample, &[&sample.questions[0]], Some(0)).unwrap_err().to_string();
        assert_eq!(error, "sample one: a question and an answer need text");
    }
}
