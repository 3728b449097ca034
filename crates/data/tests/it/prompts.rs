//! Chat templates against jinja2 as transformers runs it.

use std::collections::BTreeMap;

use foveate_data::prompt::{
    ChatTemplate, Clock, Message, Part, PromptError, Reader, RenderOptions, Role, Segment,
};
use proptest::prelude::*;
use serde::Deserialize;

use crate::fixture;

#[derive(Deserialize)]
struct Fixture {
    now: i64,
    templates: BTreeMap<String, Template>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Template {
    source: String,
    special_tokens: BTreeMap<String, String>,
}

/// `None` in a message is an image.
#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<(String, Vec<Option<String>>)>,
    images: usize,
    add_generation_prompt: bool,
    tools: Option<serde_json::Value>,
    variables: BTreeMap<String, serde_json::Value>,
    text: Option<String>,
    refused: Option<String>,
}

fn fixtures() -> Fixture {
    serde_json::from_str(&std::fs::read_to_string(fixture("prompts.json")).unwrap()).unwrap()
}

fn message((role, parts): &(String, Vec<Option<String>>)) -> Message {
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => panic!("role {other}"),
    };
    let part = |part: &Option<String>| part.clone().map_or(Part::Image, Part::Text);
    Message { role, content: parts.iter().map(part).collect() }
}

/// Found by the property test below.
#[test]
fn a_tag_that_opens_and_closes_with_one_sign_is_an_error() {
    for source in ["{%}", "{{- eos{%}", "{%}%}", "{%-}"] {
        assert!(ChatTemplate::from_jinja("demo", source, BTreeMap::new()).is_err(), "{source}");
    }
}

#[test]
fn only_the_person_shows_images_and_only_to_a_model_that_sees() {
    let template = ChatTemplate::vicuna_v1();
    let messages = [
        Message::user("Which tag shows one? <image>"),
        Message::assistant("The <image> tag."),
        Message::user("Thanks."),
    ];
    let places = |prompt: &foveate_data::prompt::Prompt| {
        prompt.segments.iter().filter(|segment| matches!(segment, Segment::Image(_))).count()
    };
    let seen = template.render(&messages, 1).unwrap();
    assert_eq!(places(&seen), 1);
    assert!(seen.text("#").contains("one? # ASSISTANT: The < image> tag."), "{}", seen.text("#"));
    let blind = template.with_reader(Reader::Tokenizer);
    let read = blind.render(&messages, 0).unwrap();
    assert_eq!(places(&read), 0);
    assert!(read.text("#").contains("one? <image> ASSISTANT: The <image> tag."), "{}", read.text("#"));
    let error = blind.render(&messages, 1).unwrap_err().to_string();
    assert_eq!(error, "1 image was given, but the prompt has 0 places for one (`<image>`)");
}

#[test]
fn rendered_as_transformers_renders() {
    let fixture = fixtures();
    for case in &fixture.cases {
        let known = fixture.templates.get(&case.template);
        let template = known.map_or_else(ChatTemplate::vicuna_v1, |known| {
            ChatTemplate::from_jinja(&case.template, &known.source, known.special_tokens.clone()).unwrap()
        });
        let messages: Vec<Message> = case.messages.iter().map(message).collect();
        let options = RenderOptions {
            add_generation_prompt: case.add_generation_prompt,
            tools: case.tools.clone(),
            variables: case.variables.clone(),
        };
        let rendered =
            template.with_clock(Clock::Fixed(fixture.now)).render_with(&messages, case.images, &options);
        let name = format!("{} on {:?}", case.template, case.messages);
        match (rendered, &case.text, &case.refused) {
            (Ok(prompt), Some(text), None) => {
                assert_eq!(&prompt.text("<image>"), text, "{name}");
                let begun = known.and_then(|known| known.special_tokens.get("bos_token"));
                let begun = begun.is_some_and(|bos| text.starts_with(bos));
                assert_eq!(prompt.add_special_tokens, !begun, "{name}");
            }
            (Err(PromptError::Refused { message, .. }), None, Some(refused)) => {
                assert_eq!(&message, refused, "{name}")
            }
            (rendered, ..) => panic!("{name}: {rendered:?}, expected {:?} {:?}", case.text, case.refused),
        }
    }
    assert!(fixture.cases.len() >= 80);
}

#[test]
fn images_without_a_place_go_in_front_of_the_question() {
    let fixture = fixtures();
    for name in ["llava", "chatml", "parts-in-order"] {
        let known = &fixture.templates[name];
        let template = ChatTemplate::from_jinja(name, &known.source, known.special_tokens.clone()).unwrap();
        let messages =
            [Message::system("S"), Message::user("Q"), Message::assistant("A"), Message::user("R")];
        let mut placed = messages.clone();
        placed[1] = Message::user("Q").with_images(2);
        assert_eq!(template.render(&messages, 2).unwrap(), template.render(&placed, 2).unwrap(), "{name}");
        let error = template.render(&placed, 1).unwrap_err().to_string();
        assert_eq!(error, "1 image was given, but the prompt has 2 places for one (`<image>`)");
        let error = template.render(&[Message::assistant("A")], 1).unwrap_err().to_string();
        assert!(error.starts_with("1 image was given, but no user message"), "{error}");
    }
}

#[test]
fn a_template_that_swallows_an_image_is_found_out() {
    let source = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}";
    let template = ChatTemplate::from_jinja("swallow", source, BTreeMap::new()).unwrap();
    let error = template.render(&[Message::user("What?").with_images(2)], 2).unwrap_err();
    assert!(matches!(error, PromptError::ImageCount { images: 2, places: 0, .. }), "{error}");
}

#[test]
fn a_system_message_is_text_where_parts_are_for_the_person_alone() {
    let parts = "{% for part in m.content %}{{ part.text }}{% endfor %}";
    let render = |of_system: &str| {
        let source = format!(
            "{{% for m in messages %}}{{% if m.role == 'system' %}}{of_system}{{% else %}}{parts}{{% endif %}}{{% endfor %}}"
        );
        let template = ChatTemplate::from_jinja("mixed", &source, BTreeMap::new()).unwrap();
        template
            .render(&[Message::system("Be brief."), Message::user("Why?")], 0)
            .map(|prompt| prompt.text("#"))
    };
    // Fails on a list, prints a list, reads one, has no use for either.
    assert_eq!(render("{{ m.content + ' ' }}").unwrap(), "Be brief. Why?");
    assert_eq!(render("{{ m.content }} ").unwrap(), "Be brief. Why?");
    assert_eq!(render(&format!("{parts} ")).unwrap(), "Be brief. Why?");
    assert_eq!(render("").unwrap(), "Why?");
    let error = render("{{ raise_exception('no system here') }}").unwrap_err();
    assert!(matches!(error, PromptError::Refused { .. }), "{error}");
}

#[test]
fn endless_templates_end() {
    let render = |source: &str| {
        let template = ChatTemplate::from_jinja("endless", source, BTreeMap::new())?;
        template.render(&[Message::user("Hi")], 0)
    };
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}\
                  {% endfor %}{% endfor %}";
    let error = render(nested).unwrap_err().to_string();
    assert!(error.starts_with("chat template of endless") && error.contains("fuel"), "{error}");
    let recursive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(render(recursive).unwrap_err().to_string().contains("recursion"));
    let wide = "{% for a in range(2000) %}{{ 'x' * 99999 }}{% endfor %}";
    assert!(render(wide).is_err());
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(render(&format!("{{{{ {deep} }}}}")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_templates_never_panic(
        pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), cut in 0usize..40, put in "[{}%\\-+#'\"a-z .|()\\[\\]é]{0,8}",
    ) {
        let fixture = fixtures();
        let known = pick.get(&fixture.templates.values().collect::<Vec<_>>()).source.clone();
        let mut source: Vec<char> = known.chars().collect();
        let start = at.index(source.len());
        let end = (start + cut).min(source.len());
        source.splice(start..end, put.chars());
        let source: String = source.into_iter().collect();
        if let Ok(template) = ChatTemplate::from_jinja("damaged", &source, BTreeMap::new()) {
            let _ = template.render(&[Message::user("Hi").with_images(1)], 1);
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(source in "\\PC{0,60}", json in "[\\[\\]{}\":a-z_,0-9 ]{0,60}") {
        if let Err(error) = ChatTemplate::from_jinja("any", &source, BTreeMap::new()) {
            prop_assert!(error.to_string().contains("any"));
        }
        if let Err(error) = ChatTemplate::from_tokenizer_config("tokenizer_config.json", &json) {
            prop_assert!(error.to_string().contains("tokenizer_config.json"));
        }
    }
}
