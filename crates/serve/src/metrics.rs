//! What Prometheus is told.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foveate_model::cache::CacheStatistics;
use foveate_model::vlm::Caches;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::engine::{Done, Milliseconds};

/// The numbers of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    stages: Family<OfStage, Histogram>,
    requests: Family<OfRequest, Counter>,
    tokens: Family<OfTokens, Counter>,
    images: Family<OfImages, Counter>,
    image_tokens: Family<OfImages, Counter>,
    jobs: Family<OfJobs, Gauge<i64, AtomicI64>>,
    batch: Histogram,
    prefixes: Arc<Mutex<CacheStatistics>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStage {
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRequest {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTokens {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfImages {
    rung: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfJobs {
    state: &'static str,
}

impl Metrics {
    /// All at zero; `caches` are read whenever somebody asks.
    pub(crate) fn new(caches: Option<Arc<Caches>>) -> Self {
        let mut registry = Registry::with_prefix("foveate");
        // A tenth of a millisecond to 52 seconds.
        let stages = Family::<OfStage, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(1e-4, 2.0, 20))
        });
        let help = "Time of each stage of an answer";
        registry.register_with_unit("stage", help, Unit::Seconds, stages.clone());
        let requests = Family::default();
        registry.register("requests", "Requests by route and status", requests.clone());
        let tokens = Family::default();
        registry.register(
            "tokens",
            "Tokens of prompts and answers; cached ones were not read again",
            tokens.clone(),
        );
        let images = Family::default();
        registry.register("images", "Images by the visual tokens that each became", images.clone());
        let image_tokens = Family::default();
        registry.register("image_tokens", "Tokens of images, by the same", image_tokens.clone());
        let jobs = Family::default();
        registry.register("jobs", "Accepted requests by what happens to them", jobs.clone());
        let batch = Histogram::new(exponential_buckets(1.0, 2.0, 8));
        registry.register("batch_size", "Answers that got a token in one pass", batch.clone());
        let prefixes = Arc::new(Mutex::default());
        registry.register_collector(Box::new(OfCaches { caches, prefixes: prefixes.clone() }));
        Self { registry, stages, requests, tokens, images, image_tokens, jobs, batch, prefixes }
    }

    /// All of them in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    pub(crate) fn request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&OfRequest { route: route.to_owned(), status }).inc();
    }

    /// Images of a request, each of which became `rung` tokens, and all their tokens.
    pub(crate) fn images(&self, rung: &str, count: usize, tokens: usize) {
        let rung = OfImages { rung: rung.to_owned() };
        self.images.get_or_create(&rung).inc_by(count as u64);
        self.image_tokens.get_or_create(&rung).inc_by(tokens as u64);
    }

    pub(crate) fn answered(&self, done: &Done) {
        let Milliseconds { queue, decode_image, tower, query, compress, project, prefill, .. } = done.ms;
        let Milliseconds { first_token, total, .. } = done.ms;
        for (stage, ms) in [
            ("queue", queue),
            ("decode_image", decode_image),
            ("tower", tower),
            ("query", query),
            ("compress", compress),
            ("project", project),
            ("prefill", prefill),
            ("first_token", first_token),
            ("total", total),
        ] {
            // Without an image there is no tower to wait for.
            if ms > 0.0 || stage == "queue" {
                self.stages.get_or_create(&OfStage { stage }).observe(ms / 1e3);
            }
        }
        for (kind, count) in [
            ("text", done.text_tokens),
            ("image", done.image_tokens),
            ("cached", done.cached_tokens),
            ("new", done.new_tokens),
        ] {
            self.tokens.get_or_create(&OfTokens { kind }).inc_by(count as u64);
        }
    }

    /// A pass that gave `answers` answers a token.
    pub(crate) fn pass(&self, time: Duration, answers: usize) {
        self.stages.get_or_create(&OfStage { stage: "pass" }).observe(time.as_secs_f64());
        self.batch.observe(answers as f64);
    }

    pub(crate) fn queue(&self, waiting: usize, looking: usize, writing: usize) {
        for (state, count) in [("waiting", waiting), ("looking", looking), ("writing", writing)] {
            self.jobs.get_or_create(&OfJobs { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn prefixes(&self, statistics: CacheStatistics) {
        *self.prefixes.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
    }
}

/// The caches, which count for themselves.
#[derive(Debug)]
struct OfCaches {
    caches: Option<Arc<Caches>>,
    prefixes: Arc<Mutex<CacheStatistics>>,
}

impl Collector for OfCaches {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut all = vec![("prefixes", *self.prefixes.lock().unwrap_or_else(PoisonError::into_inner))];
        if let Some(caches) = &self.caches {
            let of = caches.statistics();
            all.extend([("towers", of.towers), ("tokens", of.tokens), ("questions", of.questions)]);
        }
        type Read = fn(&CacheStatistics) -> u64;
        let counters: [(&str, &str, Read); 3] = [
            ("cache_hits", "Look-ups that found their entry", |of| of.hits),
            ("cache_misses", "Look-ups that did not", |of| of.misses),
            ("cache_evictions", "Entries dropped to make room", |of| of.evictions),
        ];
        for (name, help, read) in counters {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (cache, of) in &all {
                let value = ConstCounter::new(read(of));
                value.encode(family.encode_family(&[("cache", *cache)])?)?;
            }
        }
        let gauges: [(&str, &str, Read); 2] = [
            ("cache_entries", "Entries held", |of| of.entries as u64),
            ("cache_held", "Bytes held", |of| of.bytes as u64),
        ];
        for (name, help, read) in gauges {
            let unit = (name == "cache_held").then_some(Unit::Bytes);
            let kind = ConstGauge::<i64>::new(0).metric_type();
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for (cache, of) in &all {
                let value = ConstGauge::<i64>::new(i64::try_from(read(of)).unwrap_or(i64::MAX));
                value.encode(family.encode_family(&[("cache", *cache)])?)?;
            }
        }
        Ok(())
    }
}
