//! Conversations: the same answers as `foveate ask`, alone and in company, whole and as a stream.

use serde_json::{Value, json};

use super::super::{json as run, number};
use super::fixture;
use super::server::{Server, picture, question};

const NANO: &str = "foveate-nano";
const ASKED: &str = "What colour is the small square?";

/// Of foveate-nano.
const LADDER: [usize; 6] = [144, 36, 16, 9, 4, 1];

#[test]
fn answers_are_those_of_ask() {
    let folder = fixture("models/llava-1.5");
    let server = Server::start(&[&folder]);
    let cat = fixture("images/cat.png");
    let asked = run(&["ask", &folder, ASKED, "--image", &cat, "--max-new-tokens", "32", "--json"]);
    let reply = server.chat(&question("llava-1.5", ASKED, &[&picture("cat.png")]));
    assert_eq!(reply.status, 200, "{reply}");
    let document = reply.json();
    assert_eq!(reply.text(), asked["answer"].as_str().unwrap());
    let usage = &document["usage"];
    assert_eq!(usage["prompt_tokens_details"]["image_tokens"], asked["visual_tokens"]);
    assert_eq!(usage["prompt_tokens_details"]["text_tokens"], asked["text_tokens"]);
    assert_eq!(usage["completion_tokens"], asked["new_tokens"]);
    assert_eq!(
        number(&usage["total_tokens"]),
        number(&usage["prompt_tokens"]) + number(&usage["completion_tokens"])
    );
    assert_eq!(document["object"], "chat.completion");
    assert_eq!(document["choices"][0]["finish_reason"], "length");
    let account = &document["foveate"];
    assert_eq!((&account["visual_tokens"], &account["compressor"]), (&json!(16), &json!("identity")));
    assert!(number(&account["ms"]["total"]) >= number(&account["ms"]["first_token"]));

    // The same again: its image is known, and its beginning.
    let again = server.chat(&question("llava-1.5", ASKED, &[&picture("cat.png")]));
    assert_eq!(again.text(), reply.text());
    assert!(number(&again.json()["usage"]["prompt_tokens_details"]["cached_tokens"]) > 16.0);
    assert!(number(&again.json()["foveate"]["flops"]) < number(&account["flops"]));
    assert_eq!(server.metric("foveate_cache_hits_total{cache=\"tokens\"}"), 1.0);

    // A conversation goes on with what was said; a placeholder moves the image, as in ask.
    let mut longer = question("llava-1.5", ASKED, &[&picture("cat.png")]);
    let turns = longer["messages"].as_array_mut().unwrap();
    turns.extend([
        json!({"role": "assistant", "content": "Red."}),
        json!({"role": "user", "content": "Why?"}),
    ]);
    assert_eq!(server.chat(&longer).status, 200);
    // This template wants instructions as text, and parts in the other turns.
    let mut brief = question("llava-1.5", ASKED, &[]);
    brief["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "Be brief."}));
    let asked = run(&["ask", &folder, ASKED, "--system", "Be brief.", "--max-new-tokens", "32", "--json"]);
    assert_eq!(server.chat(&brief).text(), asked["answer"].as_str().unwrap());
    let behind = format!("{ASKED} <image>");
    let asked = run(&["ask", &folder, &behind, "--image", &cat, "--max-new-tokens", "32", "--json"]);
    let moved = server.chat(&question("llava-1.5", &behind, &[&picture("cat.png")]));
    assert_eq!(moved.text(), asked["answer"].as_str().unwrap());
    assert_ne!(moved.text(), reply.text());
}

#[test]
fn a_template_says_what_it_does_not_take_but_not_where_it_lies() {
    let (folder, model) = super::super::ask::copy("llava-1.5");
    let place = model.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&place).unwrap()).unwrap();
    for (template, told) in [
        (
            "{{ raise_exception('no system here') }}",
            "the model's chat template refuses these messages: no system here",
        ),
        ("{{ message['content'] / 2 }}", "the model's chat template: "),
    ] {
        config["chat_template"] = json!(format!(
            "{{% for message in messages %}}{{% if message['role'] == 'system' %}}{template}{{% else %}}{{% for part in \
             message['content'] %}}{{% if part['type'] == 'image' %}}<image>{{% else %}}{{{{ part['text'] }}}}{{% endif %}}\
             {{% endfor %}}{{% endif %}}{{% endfor %}}"
        ));
        std::fs::write(&place, config.to_string()).unwrap();
        let server = Server::start(&[model.to_str().unwrap(), "--name", "other"]);
        let mut body = question("other", ASKED, &[]);
        assert_eq!(server.chat(&body).status, 200);
        body["messages"] =
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]);
        let reply = server.chat(&body);
        let error = reply.error()["message"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && error.starts_with(told), "{reply}");
        assert!(!error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn many_clients_get_what_one_gets() {
    let folder = fixture("models/llava-1.5");
    let server = Server::start(&[&folder, "--parallel", "5"]);
    let pictures = ["cat.png", "rocket-tall.png", "coffee-wide.png"].map(picture);
    let requests: Vec<Value> = (0..36)
        .map(|nth: usize| {
            let text = format!("{ASKED} {}", "again ".repeat(nth % 5));
            let shown: Vec<&str> = pictures.iter().take(nth % 3).map(String::as_str).collect();
            let mut request = question("llava-1.5", &text, &shown);
            if nth.is_multiple_of(2) {
                request["temperature"] = json!(0.9);
                request["seed"] = json!(nth);
            }
            request
        })
        .collect();
    let expected: Vec<String> = requests.iter().map(|request| server.chat(request).text()).collect();
    // All at once, on a server that has seen nothing, twelve times as a stream.
    let server = Server::start(&[&folder, "--parallel", "5"]);
    std::thread::scope(|scope| {
        for (nth, (request, expected)) in requests.iter().zip(&expected).enumerate() {
            let server = &server;
            scope.spawn(move || {
                let text = if nth % 3 == 0 {
                    let mut request = request.clone();
                    request["stream"] = json!(true);
                    told(&server.chat(&request).events())
                } else {
                    server.chat(request).text()
                };
                assert_eq!(&text, expected, "client {nth}");
            });
        }
    });
    assert_eq!(server.metric("foveate_jobs{state=\"writing\"}"), 0.0);
    let full = server.metric("foveate_batch_size_bucket{le=\"4.0\"}");
    assert!(server.metric("foveate_batch_size_count") > full, "some passes served five");
}

/// The text of a stream.
fn told(events: &[Value]) -> String {
    let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

#[test]
fn a_stream_is_the_answer_in_pieces() {
    let server = Server::start(&[&fixture("models/llava-1.5")]);
    let mut request = question("llava-1.5", ASKED, &[&picture("cat.png")]);
    let whole = server.chat(&request).json();
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let reply = server.chat(&request);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = reply.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(told(&events), whole["choices"][0]["message"]["content"].as_str().unwrap());
    let (used, rest) = events.split_last().unwrap();
    assert_eq!((&used["choices"], &used["usage"]["completion_tokens"]), (&json!([]), &json!(32)));
    assert!(
        rest.iter().all(|event| event["usage"] == Value::Null && event["object"] == "chat.completion.chunk")
    );
    let end = rest.last().unwrap();
    assert_eq!(end["choices"][0]["finish_reason"], "length");
    assert_eq!(end["foveate"]["visual_tokens"], 16);
    assert!(rest[..rest.len() - 1].iter().all(|event| event["choices"][0]["finish_reason"] == Value::Null));
    assert!(rest.len() > 8, "in pieces");
}

#[test]
fn stops_seeds_and_probabilities() {
    let server = Server::start(&[&fixture("models/llava-1.5")]);
    let mut request = question("llava-1.5", "Tell me.", &[]);
    let whole = server.chat(&request).text();
    let middle: String = whole.chars().skip(8).take(4).collect();
    request["stop"] = json!([middle, "never said"]);
    let stopped = server.chat(&request).json();
    assert_eq!(stopped["choices"][0]["message"]["content"].as_str(), whole.split(&middle).next());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");

    request["stop"] = Value::Null;
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(3);
    let scored = server.chat(&request).json();
    let tokens = scored["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len(), 32);
    for token in &tokens {
        let best = token["top_logprobs"].as_array().unwrap();
        // Greedy: the token is the best one.
        assert_eq!((best.len(), &best[0]["token"]), (3, &token["token"]));
        assert_eq!(best[0]["logprob"], token["logprob"]);
        assert!(number(&token["logprob"]) < 0.0 && number(&best[1]["logprob"]) <= number(&token["logprob"]));
    }
    request["stream"] = json!(true);
    let streamed: Vec<Value> = server
        .chat(&request)
        .events()
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(streamed, tokens);

    let mut drawn = question("llava-1.5", "Tell me.", &[]);
    drawn["temperature"] = json!(1.2);
    drawn["seed"] = json!(7);
    assert_eq!(server.chat(&drawn).text(), server.chat(&drawn).text());
    drawn["seed"] = Value::Null;
    assert_ne!(server.chat(&drawn).text(), server.chat(&drawn).text(), "32 tokens of 384 at random");
}

#[test]
fn a_budget_is_kept_or_refused() {
    let home = tempfile::tempdir().unwrap();
    let laws = home.path().join("laws.json");
    let errors = [1, 4, 9, 16, 36, 144].map(|v| json!({"visual_tokens": v, "error": 1.0 / f64::from(v)}));
    let families = json!({"reasoning": {"rungs": errors}, "text": {"rungs": errors}});
    std::fs::write(&laws, json!({"compressor": "quecc", "families": families}).to_string()).unwrap();
    let server = Server::start(&["--laws", laws.to_str().unwrap()]);
    let mut request = question(NANO, "How many shapes are there?", &[&picture("cat.png")]);
    for rung in [1, 4, 16] {
        request["visual_tokens"] = json!(rung);
        let document = server.chat(&request).json();
        assert_eq!(document["foveate"]["visual_tokens"], rung);
        assert_eq!(document["usage"]["prompt_tokens_details"]["image_tokens"], rung);
        // Counted before it is paid, to the FLOP but for the end of the answer.
        let count = server.post("/v1/count", &request).json();
        assert_eq!(count["image_tokens"], rung);
        assert_eq!(count["prompt_tokens"], document["usage"]["prompt_tokens"]);
        assert!(number(&count["flops"]) <= number(&count["flops_at_most"]));
        assert!(number(&count["predicted_ms"]) > 0.0);
    }
    request["visual_tokens"] = json!(5);
    for path in ["/v1/chat/completions", "/v1/count"] {
        let reply = server.post(path, &request);
        let error = reply.error();
        assert_eq!((reply.status, &error["param"]), (400, &json!("visual_tokens")), "{reply}");
        assert!(error["message"].as_str().unwrap().contains("144, 36, 16, 9, 4, 1"), "{error}");
        assert_eq!(error["foveate"]["ladder"]["rungs"], json!(LADDER));
    }
    // Ample time buys the least error, hardly any nothing.
    request["visual_tokens"] = json!("auto");
    request["max_latency_ms"] = json!(60_000);
    assert_eq!(server.chat(&request).json()["foveate"]["visual_tokens"], 144);
    request["max_latency_ms"] = json!(1e-6);
    let reply = server.chat(&request);
    let error = reply.error();
    assert_eq!((reply.status, &error["param"]), (422, &json!("max_latency_ms")), "{reply}");
    assert!(number(&error["foveate"]["least_ms"]) > 1e-6 && error["foveate"]["visual_tokens"] == 1);
    assert_eq!(server.metric("foveate_images_total{rung=\"16\"}"), 1.0);
    assert_eq!(server.metric("foveate_images_total{rung=\"1\"}"), 1.0);
    assert_eq!(server.metric("foveate_image_tokens_total{rung=\"144\"}"), 144.0);
    // Everything that was refused cost the model nothing.
    assert_eq!(server.metric("foveate_stage_seconds_count{stage=\"total\"}"), 4.0);
}

#[test]
fn models_plans_and_documents() {
    let server = Server::start(&["--name", "eye"]);
    let models = server.get("/v1/models").json();
    assert_eq!((&models["data"][0]["id"], &models["object"]), (&json!("eye"), &json!("list")));
    assert_eq!(models["data"][0]["foveate"]["ladder"]["rungs"], json!(LADDER));
    assert_eq!(server.get("/v1/models/eye").json(), models["data"][0]);
    let reply = server.chat(&question("gpt", "Hello?", &[]));
    assert_eq!((reply.status, &reply.error()["code"]), (404, &json!("model_not_found")));

    let plan = server.post("/v1/plan", &json!({"budgets": ["2TFLOP"], "text_tokens": 30})).json();
    let printed = run(&["plan", "--budget", "2TFLOP", "--text-tokens", "30", "--json"]);
    assert_eq!(plan["ranked"], printed["ranked"]);
    assert_eq!(plan["findings"], printed["findings"]);
    for (request, status, param) in [
        (json!({"budgets": []}), 400, "budgets"),
        (json!({"budgets": ["3 apples"]}), 400, "budgets"),
        (json!({"budgets": ["20GFLOP"]}), 422, "budgets"),
        (json!({"budgets": ["2TFLOP"], "tower": "clip"}), 400, "tower"),
        (json!({"budgets": ["2TFLOP"], "compressor": "quec"}), 400, "compressor"),
        (json!({"budgets": ["2TFLOP"], "budget": 1}), 400, "budget"),
    ] {
        let reply = server.post("/v1/plan", &request);
        assert_eq!((reply.status, &reply.error()["param"]), (status, &json!(param)), "{reply}");
    }

    let document = server.get("/openapi.json").json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/v1/chat/completions",
        "/v1/count",
        "/v1/plan",
        "/v1/look",
        "/v1/files/{id}/content",
        "/metrics",
        "/ready",
    ] {
        assert!(paths.iter().any(|known| *known == path), "{path} is not among {paths:?}");
    }
    assert!(String::from_utf8(server.get("/docs/").body).unwrap().contains("swagger-ui"));
    let page = server.get("/docs/swagger-ui-bundle.js");
    assert!(page.status == 200 && page.body.len() > 100_000, "it is a part of the program");
    assert_eq!((server.get("/health").status, server.get("/ready").status), (200, 200));
}

/// `auto` is what `ask` chooses for the same question, with and without a latency.
#[test]
fn a_question_gets_what_it_calls_for() {
    let home = tempfile::tempdir().unwrap();
    let model = crate::auto::trained(home.path(), "");
    let folder = model.to_str().unwrap();
    run(&["calibrate", folder, "--json"]);
    std::fs::write(model.join("laws.json"), crate::auto::LAWS).unwrap();
    let server = Server::start(&[folder, "--name", "eye"]);
    for asked in ["How many stars are there?", "What is written in the picture?"] {
        let image = super::fixture("images/cat.png");
        let chosen = run(&[
            "ask",
            folder,
            asked,
            "--image",
            &image,
            "--visual-tokens",
            "auto",
            "--max-new-tokens",
            "4",
            "--json",
        ]);
        let mut request = question("eye", asked, &[&picture("cat.png")]);
        request["max_tokens"] = json!(4);
        request["visual_tokens"] = json!("auto");
        let reply = server.chat(&request).json();
        assert_eq!(reply["foveate"]["visual_tokens"], chosen["visual_tokens"], "{chosen}");
        assert_eq!(reply["choices"][0]["message"]["content"], chosen["answer"]);
        let count = server.post("/v1/count", &request).json();
        assert_eq!(count["visual_tokens"], chosen["visual_tokens"]);
        // With ample time the least error wins, whatever it costs. One token: a model of four steps may end at once, and
        // a server that has made no second pass cannot foretell one.
        request["max_tokens"] = json!(1);
        request["max_latency_ms"] = json!(60_000);
        assert_eq!(server.chat(&request).json()["foveate"]["visual_tokens"], 16);
        request["max_latency_ms"] = json!(1e-6);
        assert_eq!(server.chat(&request).status, 422);
    }
}
