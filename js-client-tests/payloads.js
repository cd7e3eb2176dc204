// Payloads as the backends of the Intraday Console publish them, and the
// patterns of what the server adds to them.

const timestamp = '2024-01-15T10:30:00.000Z';

/** What curl sends in the document, word for word but for the dots: a KPI without `sla_risk`. */
export const documentsKpi = {
  organization_id: 'org_123',
  queue_name: 'support',
  timestamp: '2024-01-15T10:30:00Z',
  utilization: { current_utilization: 0.82 },
  health_score: 85,
};

export const kpi = (organization_id, more = {}) => ({
  organization_id,
  timestamp,
  utilization: { current_utilization: 0.82, target_utilization: 0.85, active_staff_count: 41 },
  headcount_gap: { headcount_gap: -2, current_headcount: 41, required_headcount: 43, staffing_level: 'understaffed' },
  sla_risk: { risk_score: 0.2, risk_level: 'low', compliance_percentage: 96.5 },
  health_score: 85,
  ...more,
});

export const backlog = (organization_id, more = {}) => ({
  snapshot_id: 'snap_1',
  organization_id,
  total_items: 120,
  avg_wait_time_minutes: 4.5,
  items_over_sla: 3,
  sla_compliance_percentage: 97.5,
  backlog_trend: 'stable',
  items_added_this_interval: 10,
  items_completed_this_interval: 12,
  timestamp,
  ...more,
});

export const attendance = (organization_id, more = {}) => ({
  snapshot_id: 'snap_2',
  organization_id,
  scheduled_count: 50,
  present_count: 47,
  absent_count: 2,
  late_count: 1,
  attendance_rate: 0.94,
  recent_checkins: [{ employee_id: 'e_1', employee_name: 'Zoë', checked_in_at: timestamp, status: 'on_time' }],
  timestamp,
  ...more,
});

export const alert = (organization_id, more = {}) => ({
  alert_id: 'alert_1',
  rule_id: 'rule_1',
  rule_name: 'Queue too long',
  alert_type: 'threshold',
  severity: 'warning',
  source: 'backlog',
  message: 'more than 100 items wait',
  current_value: 120,
  threshold_value: 100,
  status: 'active',
  organization_id,
  timestamp,
  ...more,
});

export const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const MESSAGE_ID = /^msg_\d{13}_[0-9a-z]{9}$/;
export const SUBSCRIPTION_ID = /^sub_\d{13}_[0-9a-z]{9}$/;
export const POSITION = /^[^.\s]+\.\d+$/;
