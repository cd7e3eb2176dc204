//! The figures: what is counted about queues, and what follows from it.

/// Utilization that the call centre staffs for.
pub(super) const TARGET_UTILIZATION: f64 = 0.85;

/// What is counted about one queue, or summed over several.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) present: u32,
    pub(super) absent: u32,
    pub(super) late: u32,
    pub(super) required: u32,
    /// People present times their utilization.
    pub(super) busy: f64,
    pub(super) items: u32,
    pub(super) over_sla: u32,
    pub(super) at_risk: u32,
    /// Minutes waited, summed over the items.
    pub(super) waiting: f64,
    /// Minutes promised, summed over the items.
    pub(super) promised: f64,
    /// Items per minute if everybody were busy.
    pub(super) pace: f64,
}

impl Figures {
    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            present: self.present + other.present,
            absent: self.absent + other.absent,
            late: self.late + other.late,
            required: self.required + other.required,
            busy: self.busy + other.busy,
            items: self.items + other.items,
            over_sla: self.over_sla + other.over_sla,
            at_risk: self.at_risk + other.at_risk,
            waiting: self.waiting + other.waiting,
            promised: self.promised + other.promised,
            pace: self.pace + other.pace,
        }
    }

    pub(super) fn utilization(&self) -> f64 {
        self.busy / f64::from(self.present.max(1))
    }

    pub(super) fn coverage(&self) -> f64 {
        f64::from(self.present) / f64::from(self.required.max(1))
    }

    pub(super) fn gap(&self) -> i64 {
        i64::from(self.present) - i64::from(self.required)
    }

    pub(super) fn per_item(&self, sum: f64) -> f64 {
        sum / f64::from(self.items.max(1))
    }

    pub(super) fn wait_minutes(&self) -> f64 {
        self.per_item(self.waiting)
    }

    pub(super) fn compliance(&self) -> f64 {
        100.0 * (1.0 - self.per_item(f64::from(self.over_sla)))
    }

    pub(super) fn risk_score(&self) -> f64 {
        let missed = self.per_item(f64::from(self.over_sla));
        let strain = (self.utilization() - 0.80).max(0.0);
        (100.0 * (2.3 * missed + 1.2 * strain)).clamp(0.0, 100.0)
    }

    pub(super) fn efficiency(&self) -> f64 {
        (100.0 - 60.0 * (self.utilization() - TARGET_UTILIZATION).abs()).clamp(0.0, 100.0)
    }

    /// Out of 100: a quarter utilization, a third coverage, the rest the promise kept and efficiency.
    pub(super) fn health(&self) -> f64 {
        let used = 100.0 - 150.0 * (self.utilization() - TARGET_UTILIZATION).abs();
        let covered = 100.0 - 180.0 * (1.0 - self.coverage()).abs();
        let kept = 2.0 * (self.compliance() - 50.0);
        (0.25 * used + 0.35 * covered + 0.30 * kept + 0.10 * self.efficiency()).clamp(0.0, 100.0)
    }
}
