-- On closed days, sessions explain what is billed for their products but for 1 %.
select
    day,
    org_id,
    billed_acus_of_products_with_sessions as billed_acus,
    session_acus,
    residual_acus,
    status
from reconciliation_daily
where
    is_closed
    and ($days is null or list_contains($days, day))
    -- guard: a residual of a lake that has just begun, as a warning | and history_is_complete -> and true
    and history_is_complete
    and abs(billed_acus_of_products_with_sessions) >= $least_acus
    -- guard: a residual of more than 1 % | in ('within_5_percent', 'unexplained') -> in ('unexplained')
    and status in ('within_5_percent', 'unexplained')
order by day, org_id
