//! What admins do with the definitions of metrics.

use serde_json::json;

use super::audit::AuditEvent;
use super::change::Change;
use super::{Admin, Planned};
use crate::Result;
use crate::metric::Metric;

impl Admin<'_> {
    /// Defines metrics, in the place of those with the same ids; all of them or none.
    pub(crate) fn put_metrics(&self, metrics: &[Metric]) -> Result<()> {
        self.write(|_, _, now| {
            let mut planned = Planned::nothing(());
            for metric in metrics {
                planned.changes.push(Change::PutMetric(Box::new(metric.into())));
                let event = AuditEvent::new(now, "metric.defined", format!("metric:{}", metric.id));
                planned.events.push(event.with(json!({"source": metric.source})));
            }
            Ok(planned)
        })
    }

    /// Takes a definition away.
    pub(crate) fn remove_metric(&self, id: &str) -> Result<()> {
        self.write(|_, _, now| {
            Ok(Planned {
                changes: vec![Change::RemoveMetric(id.to_string())],
                events: vec![AuditEvent::new(now, "metric.removed", format!("metric:{id}"))],
                value: (),
            })
        })
    }
}
