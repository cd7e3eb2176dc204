//! The KPIs: those of the organization at every step, those of its queues in turns.

use serde_json::{Value, json};

use super::figures::{Figures, TARGET_UTILIZATION};
use super::numbers::rounded;
use super::queues::{Profile, QUEUES, Queue};
use super::step::{DAY, Step};

/// Steps between two KPI events of single queues, which take turns.
const QUEUE_EVERY: u64 = 2;

/// What was told last, of which the next event tells the changes.
#[derive(Default)]
pub(super) struct Kpis {
    organization: Option<Vitals>,
    queues: [Option<Vitals>; QUEUES.len()],
}

impl Kpis {
    pub(super) fn report(&mut self, queues: &[Queue], step: &mut Step<'_>) {
        let all = queues.iter().fold(Figures::default(), |sum, queue| sum.plus(&queue.figures()));
        tell(&all, None, &mut self.organization, step);
        let turn = (step.number / QUEUE_EVERY) as usize % queues.len();
        for (index, (queue, vitals)) in queues.iter().zip(&mut self.queues).enumerate() {
            // The first step tells everything, so that nobody waits for a turn.
            if step.number == 0 || (step.number.is_multiple_of(QUEUE_EVERY) && index == turn) {
                tell(&queue.figures(), Some(queue.profile), vitals, step);
            }
        }
    }
}

/// The four numbers whose changes a KPI payload tells.
#[derive(Debug, Clone, Copy)]
struct Vitals {
    utilization: f64,
    gap: i64,
    risk: f64,
    health: f64,
}

impl Vitals {
    fn of(figures: &Figures) -> Self {
        Self {
            utilization: figures.utilization(),
            gap: figures.gap(),
            risk: figures.risk_score(),
            health: figures.health(),
        }
    }
}

/// Tells the KPIs of `queue`, or of all together; `vitals` are those of the time before, and become these.
fn tell(figures: &Figures, queue: Option<&Profile>, vitals: &mut Option<Vitals>, step: &mut Step<'_>) {
    let now = Vitals::of(figures);
    let before = vitals.replace(now).unwrap_or(now);
    let mut payload = step.payload(queue);
    payload.insert("utilization".into(), utilization(figures, step.number));
    payload.insert(
        "headcount_gap".into(),
        json!({
            "headcount_gap": now.gap,
            "current_headcount": figures.present,
            "required_headcount": figures.required,
            "coverage_ratio": rounded(figures.coverage(), 3),
            "staffing_level": staffing_level(figures.coverage()),
            "absent_count": figures.absent,
            "late_count": figures.late,
        }),
    );
    payload.insert(
        "sla_risk".into(),
        json!({
            "risk_score": rounded(now.risk, 1),
            "risk_level": risk_level(now.risk),
            "compliance_percentage": rounded(figures.compliance(), 1),
            "average_wait_time_minutes": rounded(figures.wait_minutes(), 1),
            "items_at_risk": figures.at_risk,
            "sla_threshold_minutes": rounded(figures.per_item(figures.promised), 1),
        }),
    );
    payload.insert("health_score".into(), rounded(now.health, 1));
    payload.insert(
        "changes".into(),
        json!({
            "utilization_change": rounded(now.utilization - before.utilization, 4),
            "headcount_gap_change": now.gap - before.gap,
            "sla_risk_change": rounded(now.risk - before.risk, 1),
            "health_score_change": rounded(now.health - before.health, 1),
        }),
    );
    step.tell("kpi:update", payload);
}

fn utilization(figures: &Figures, steps: u64) -> Value {
    let current = figures.utilization();
    // Hours of an eight-hour shift, of which some part has passed.
    let hours = f64::from(figures.present) * (0.5 + 7.5 * (steps % DAY) as f64 / DAY as f64);
    let on_break = figures.present / 12;
    let active = (figures.busy.round() as u32).min(figures.present - on_break);
    json!({
        "current_utilization": rounded(current, 4),
        "target_utilization": TARGET_UTILIZATION,
        "utilization_variance": rounded(current - TARGET_UTILIZATION, 4),
        "productive_hours": rounded(hours * current, 1),
        "available_hours": rounded(hours, 1),
        "idle_hours": rounded(hours * (1.0 - current), 1),
        "active_staff_count": active,
        "staff_on_break": on_break,
        "idle_staff_count": figures.present - on_break - active,
        "avg_work_rate": rounded(60.0 * current * figures.pace / f64::from(figures.present.max(1)), 1),
        "efficiency_score": rounded(figures.efficiency(), 1),
    })
}

fn staffing_level(coverage: f64) -> &'static str {
    match coverage {
        c if c < 0.80 => "critical_understaffed",
        c if c < 0.95 => "understaffed",
        c if c <= 1.10 => "optimal",
        c if c <= 1.30 => "overstaffed",
        _ => "critical_overstaffed",
    }
}

fn risk_level(score: f64) -> &'static str {
    match score {
        s if s >= 72.0 => "critical",
        s if s >= 52.0 => "high",
        s if s >= 30.0 => "medium",
        _ => "low",
    }
}
