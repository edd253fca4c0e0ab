//! Counters and gauges, in the text form that Prometheus reads.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// All figures of one daemon. Cloned freely; registering the same name and labels twice gives the
/// same figure.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<&'static str, Family>>>);

/// A figure that only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// A figure that rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

/// Names and values known when the code was written, so that no stranger can make a new series.
pub type Labels = &'static [(&'static str, &'static str)];

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<Labels, Figure>,
}

#[derive(Debug)]
enum Figure {
    Counter(Counter),
    Gauge(Gauge),
}

impl Metrics {
    /// A counter. By custom its name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels) -> Counter {
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| Family::new(help, "counter"));
        match family.series.entry(labels).or_insert_with(|| Figure::Counter(Counter::default())) {
            Figure::Counter(counter) => counter.clone(),
            // The name is a gauge's already: a figure that nobody shows is better than an end.
            Figure::Gauge(_) => Counter::default(),
        }
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels) -> Gauge {
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| Family::new(help, "gauge"));
        match family.series.entry(labels).or_insert_with(|| Figure::Gauge(Gauge::default())) {
            Figure::Gauge(gauge) => gauge.clone(),
            Figure::Counter(_) => Gauge::default(),
        }
    }

    /// All figures as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.0.lock().iter() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, figure) in &family.series {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = match figure {
                    Figure::Counter(counter) => writeln!(text, "{name}{labels} {}", counter.value()),
                    Figure::Gauge(gauge) => writeln!(text, "{name}{labels} {}", gauge.value()),
                };
            }
        }
        text
    }
}

impl Family {
    fn new(help: &'static str, kind: &'static str) -> Self {
        Self { help, kind, series: BTreeMap::new() }
    }
}

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// It changed by this.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// What it is.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.counter("writ_fetches_total", "Answers given.", &[("result", "refused")]).add(2);
        metrics.counter("writ_fetches_total", "Answers given.", &[("result", "ok")]).increment();
        metrics.counter("writ_fetches_total", "Answers given.", &[("result", "ok")]).increment();
        metrics.gauge("writ_streams", "Open streams.", &[]).set(-3);
        assert_eq!(
            metrics.render(),
            "# HELP writ_fetches_total Answers given.\n\
             # TYPE writ_fetches_total counter\n\
             writ_fetches_total{result=\"ok\"} 2\n\
             writ_fetches_total{result=\"refused\"} 2\n\
             # HELP writ_streams Open streams.\n\
             # TYPE writ_streams gauge\n\
             writ_streams -3\n"
        );
    }
}
