//! Chat templates: Jinja as transformers runs it (`trim_blocks`, `lstrip_blocks`, loop controls, Python's string
//! methods, `raise_exception`, `strftime_now`, `tojson`), with bounds on steps, nesting and output.

use std::collections::BTreeMap;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::{Message, Part, Prompt, PromptError, Role, json, vicuna};

/// The image token of LLaVA and of models that do not name another.
pub const DEFAULT_IMAGE_TOKEN: &str = "<image>";

/// Steps of the template engine; published templates take some thousand.
const MAX_STEPS: u64 = 20_000_000;
/// Bytes of a rendered prompt.
const MAX_OUTPUT: usize = 64 << 20;
/// Nested blocks, macros and expressions.
const MAX_NESTING: usize = 100;
/// What a template is shown to see how it reads content.
const PROBE: &str = "foveate-probe";

/// What `strftime_now` shows: some templates write the date into the system message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The machine's time and zone.
    #[default]
    System,
    /// Always this instant, in UTC, as seconds since 1970. For tests and caches.
    Fixed(i64),
}

/// What to render besides the messages.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderOptions {
    /// Ends the prompt with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Descriptions of tools, handed to the template as they are.
    pub tools: Option<serde_json::Value>,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: BTreeMap<String, serde_json::Value>,
}

impl Default for RenderOptions {
    /// A prompt for the assistant to continue, without tools.
    fn default() -> RenderOptions {
        RenderOptions { add_generation_prompt: true, tools: None, variables: BTreeMap::new() }
    }
}

/// What turns the prompt into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reader {
    /// A processor of images and text: it puts images at their tokens, and special tokens in front of a prompt whose
    /// template did not write them.
    #[default]
    Processor,
    /// The tokenizer of a model without sight: no text is an image's place, and special tokens are the template's
    /// affair.
    Tokenizer,
}

/// How a model wants its conversations written.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    kind: Kind,
    image_token: String,
    clock: Clock,
    reader: Reader,
}

#[derive(Debug, Clone)]
enum Kind {
    VicunaV1,
    Jinja(Jinja),
}

#[derive(Debug, Clone)]
struct Jinja {
    /// Where it came from, for errors.
    file: String,
    source: String,
    /// `bos_token` and the like.
    special_tokens: BTreeMap<String, String>,
    /// Whether it reads a list of parts; otherwise content is one string.
    reads_parts: bool,
    /// Whether what the system says is one string all the same: some templates read parts in the person's turns alone.
    system_is_text: bool,
}

impl ChatTemplate {
    /// The conversation of Vicuna v1 and LLaVA-1.5, which has no template file of its own.
    pub fn vicuna_v1() -> ChatTemplate {
        ChatTemplate {
            kind: Kind::VicunaV1,
            image_token: DEFAULT_IMAGE_TOKEN.to_owned(),
            clock: Clock::System,
            reader: Reader::default(),
        }
    }

    /// A Jinja template. `file` is what errors call it; `special_tokens` are variables by their names in
    /// `tokenizer_config.json`, such as `bos_token`.
    pub fn from_jinja(
        file: &str,
        source: &str,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<ChatTemplate, PromptError> {
        let source = without_generation_tags(source);
        let file = file.to_owned();
        let mut jinja = Jinja { file, source, special_tokens, reads_parts: true, system_is_text: false };
        jinja.environment(Clock::System)?;
        jinja.reads_parts = jinja.shows(&[Message::user(PROBE)]);
        if jinja.reads_parts {
            let asked = [Message::system(PROBE), Message::user("?")];
            // One that takes no system message, or leaves it out, does so in either form.
            let as_text = Jinja { system_is_text: true, ..jinja.clone() };
            jinja.system_is_text = !jinja.shows(&asked) && as_text.shows(&asked);
        }
        let image_token = DEFAULT_IMAGE_TOKEN.to_owned();
        let (kind, clock, reader) = (Kind::Jinja(jinja), Clock::System, Reader::default());
        Ok(ChatTemplate { kind, image_token, clock, reader })
    }

    /// Another image token, for models that name one.
    pub fn with_image_token(mut self, image_token: &str) -> Result<ChatTemplate, PromptError> {
        if image_token.is_empty() {
            return Err(PromptError::EmptyImageToken);
        }
        self.image_token = image_token.to_owned();
        Ok(self)
    }

    /// Another clock.
    pub fn with_clock(mut self, clock: Clock) -> ChatTemplate {
        self.clock = clock;
        self
    }

    /// Another reader: as in transformers it is the model's kind that decides, not the template.
    pub fn with_reader(mut self, reader: Reader) -> ChatTemplate {
        self.reader = reader;
        self
    }

    /// The Jinja source; `None` for Vicuna's, which has none.
    pub fn source(&self) -> Option<&str> {
        match &self.kind {
            Kind::VicunaV1 => None,
            Kind::Jinja(jinja) => Some(&jinja.source),
        }
    }

    /// The token that marks an image's place.
    pub fn image_token(&self) -> &str {
        &self.image_token
    }

    /// The prompt that asks the assistant to answer.
    ///
    /// With images but no place for them in any message, all go in front of the first user message, as in LLaVA.
    ///
    /// ```
    /// use foveate_data::prompt::{ChatTemplate, Message};
    /// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content.strip() }}{% endfor %}<assistant>";
    /// let template = ChatTemplate::from_jinja("demo", source, Default::default())?;
    /// let prompt = template.render(&[Message::user("Which is larger? ")], 2)?;
    /// assert_eq!(prompt.text("#"), "<user>#\n#\nWhich is larger?<assistant>");
    /// let error = template.render(&[Message::user("<image> and <image>?")], 3).unwrap_err();
    /// assert_eq!(error.to_string(), "3 images were given, but the prompt has 2 places for one (`<image>`)");
    /// # Ok::<(), foveate_data::prompt::PromptError>(())
    /// ```
    pub fn render(&self, messages: &[Message], images: usize) -> Result<Prompt, PromptError> {
        self.render_with(messages, images, &RenderOptions::default())
    }

    /// As [`render`](Self::render), with options.
    pub fn render_with(
        &self,
        messages: &[Message],
        images: usize,
        options: &RenderOptions,
    ) -> Result<Prompt, PromptError> {
        let placed = self.place(messages, images)?;
        let (text, add_special_tokens) = match &self.kind {
            Kind::VicunaV1 => {
                (vicuna::render(&placed, &self.image_token, options.add_generation_prompt), true)
            }
            Kind::Jinja(jinja) => {
                let text = jinja.render(&placed, &self.image_token, self.clock, options)?;
                let bos = jinja.special_tokens.get("bos_token").filter(|bos| !bos.is_empty());
                let begun = bos.is_some_and(|bos| text.starts_with(bos.as_str()));
                (text, self.reader == Reader::Processor && !begun)
            }
        };
        let segments = match self.reader {
            Reader::Processor => Prompt::cut(&text, &self.image_token, images)?,
            Reader::Tokenizer => Prompt::plain(text),
        };
        Ok(Prompt { segments, add_special_tokens })
    }

    fn place(&self, messages: &[Message], images: usize) -> Result<Vec<Message>, PromptError> {
        let mut placed = messages.to_vec();
        if self.reader == Reader::Tokenizer {
            let image_token = self.image_token.clone();
            return match images {
                0 => Ok(placed),
                _ => Err(PromptError::ImageCount { images, places: 0, image_token }),
            };
        }
        placed.iter_mut().for_each(|message| message.without_places(&self.image_token));
        let places: usize = placed.iter().map(|message| message.image_count(&self.image_token)).sum();
        if places == 0 && images > 0 {
            let question = placed.iter_mut().find(|message| message.role == Role::User);
            let question = question.ok_or(PromptError::NoUserMessage { images })?;
            question.content.splice(0..0, std::iter::repeat_n(Part::Image, images));
        } else if places != images {
            return Err(PromptError::ImageCount { images, places, image_token: self.image_token.clone() });
        }
        Ok(placed)
    }
}

impl Jinja {
    fn environment(&self, clock: Clock) -> Result<Environment<'_>, PromptError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| self.error(&error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(|out, state, value| match value.kind() {
            // Jinja prints Python's names.
            ValueKind::None => out.write_str("None").map_err(Error::from),
            ValueKind::Bool => {
                out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from)
            }
            _ => minijinja::escape_formatter(out, state, value),
        });
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_recursion_limit(MAX_NESTING);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", |value: Value, options: Kwargs| json::tojson(&value, options));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            let error = Error::new(ErrorKind::InvalidOperation, message.clone());
            Err(error.with_source(Raised(message)))
        });
        environment.add_function("strftime_now", move |format: String| now(clock, &format));
        environment.add_template("chat", &self.source).map_err(|error| self.error(&error))?;
        Ok(environment)
    }

    fn render(
        &self,
        messages: &[Message],
        image_token: &str,
        clock: Clock,
        options: &RenderOptions,
    ) -> Result<String, PromptError> {
        let messages = messages.iter().map(|message| self.message(message, image_token)).collect::<Value>();
        let json = |value: &serde_json::Value| Value::from(minijinja::value::Serde(value));
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            variables.insert(name, Value::from(token));
        }
        for (name, value) in &options.variables {
            variables.insert(name, json(value));
        }
        // transformers always passes these, if only as None: `tools is defined` holds.
        variables.insert("tools", options.tools.as_ref().map_or(Value::from(()), json));
        variables.insert("documents", Value::from(()));
        variables.insert("add_generation_prompt", Value::from(options.add_generation_prompt));
        variables.insert("messages", messages);

        let environment = self.environment(clock)?;
        let template = environment.get_template("chat").map_err(|error| self.error(&error))?;
        let mut out = Bounded(Vec::new());
        template
            .render_captured_to(Value::from_pairs(variables), &mut out)
            .map_err(|error| self.error(&error))?;
        String::from_utf8(out.0).map_err(|error| PromptError::Template {
            file: self.file.clone(),
            reason: format!("its output is no UTF-8: {error}"),
        })
    }

    fn message(&self, message: &Message, image_token: &str) -> Value {
        let is_text = self.system_is_text && message.role == Role::System;
        let content = if self.reads_parts && !is_text {
            let part = |part: &Part| match part {
                Part::Text(text) => Value::from_pairs([("type", "text"), ("text", text.as_str())]),
                Part::Image => Value::from_pairs([("type", "image")]),
            };
            message.content.iter().map(part).collect::<Value>()
        } else {
            Value::from(message.flatten(image_token))
        };
        Value::from_pairs([("role", Value::from(message.role.as_str())), ("content", content)])
    }

    /// Whether a prompt of these messages has the probe in it. A template that gets parts and knows only strings fails on
    /// them, leaves the text out or prints the list itself, its text in quotes.
    fn shows(&self, messages: &[Message]) -> bool {
        let options = RenderOptions::default();
        let Ok(text) = self.render(messages, DEFAULT_IMAGE_TOKEN, Clock::Fixed(0), &options) else {
            return false;
        };
        text.find(PROBE).is_some_and(|at| !text[..at].ends_with(['"', '\'']))
    }

    fn error(&self, error: &Error) -> PromptError {
        let file = self.file.clone();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(current) = cause {
            if let Some(Raised(message)) = current.downcast_ref() {
                return PromptError::Refused { file, message: message.clone() };
            }
            cause = current.source();
        }
        PromptError::Template { file, reason: error.to_string() }
    }
}

/// What a template's `raise_exception` said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn now(clock: Clock, format: &str) -> Result<String, Error> {
    let refuse =
        |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"));
    let now = match clock {
        Clock::System => jiff::Zoned::now(),
        Clock::Fixed(seconds) => {
            jiff::Timestamp::from_second(seconds).map_err(refuse)?.to_zoned(jiff::tz::TimeZone::UTC)
        }
    };
    jiff::fmt::strtime::format(format, &now).map_err(refuse)
}

/// Output that stops growing at [`MAX_OUTPUT`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the prompt would be longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{% generation %} … {% endgeneration %}` marks the assistant's words for training in transformers and prints its
/// body. The engine here does not know the tag: an `if` that always holds does the same, whitespace control included.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // Behind the two signs that open the tag: in `{%}` none closes it.
        let Some(length) = rest[start + 2..].find("%}").map(|at| at + 2) else { break };
        let tag = &rest[start + 2..start + length];
        let word = tag.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match replacement {
            Some(replacement) => {
                let sign =
                    |sign: Option<char>| sign.filter(|sign| matches!(sign, '-' | '+')).map(String::from);
                let before = sign(tag.chars().next()).unwrap_or_default();
                let after = sign(tag.chars().last()).unwrap_or_default();
                out.push_str(&format!("{{%{before} {replacement} {after}%}}"));
            }
            None => out.push_str(&rest[start..start + length + 2]),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}
