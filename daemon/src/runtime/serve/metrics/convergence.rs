//! The histogram of how long changes take to reach the routers.

use std::collections::HashMap;

use ferrolb_bgp::speaker::{Convergence, DELAY_BOUNDS, Delays};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::Metrics;

const NAME: &str = "ferrolb_convergence_seconds";
const STAGE: &str = "stage";
const HELP: &str = "Time since a change of a Kubernetes object was seen that changed routes: until \
                    they were decided, until the last UPDATE for a peer was written, and until its \
                    TCP acknowledged that (to within a factor of 2, for one change a second and \
                    peer). Changes on their way at the same time count as one.";

/// Adds the histogram, without values in a process that does not announce over BGP.
pub(super) fn add(
    metrics: &mut Metrics,
    convergence: Option<&Convergence>,
) -> prometheus::Result<()> {
    let labels = vec![STAGE.to_owned()];
    let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), labels, HashMap::new())?;
    let stages = convergence.map(|convergence| {
        [
            ("decided", convergence.decided),
            ("written", convergence.written),
            ("acknowledged", convergence.acknowledged),
        ]
    });
    let stages: Vec<_> = stages.into_iter().flatten().collect();
    metrics.add(&Stages { desc, stages }, "histogram")
}

/// The values of the engine as a metric: the prometheus crate has no histogram that is filled from
/// counters.
#[derive(Clone, Debug)]
struct Stages {
    desc: Desc,
    stages: Vec<(&'static str, Delays)>,
}

impl Collector for Stages {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.stages.iter().map(|(stage, delays)| {
            let mut label = LabelPair::default();
            label.set_name(STAGE.to_owned());
            label.set_value((*stage).to_owned());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_histogram(histogram(delays));
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

fn histogram(delays: &Delays) -> Histogram {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(DELAY_BOUNDS.len());
    for (bound, delays) in DELAY_BOUNDS.iter().zip(delays.buckets) {
        count += delays;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(delays.buckets.iter().sum());
    histogram.set_sample_sum(delays.sum.as_secs_f64());
    histogram
}
