-- On closed days, sessions explain what is billed for their products but for 5 %.
select
    day,
    org_id,
    billed_acus_of_products_with_sessions as billed_acus,
    session_acus,
    residual_acus
from reconciliation_daily
where
    is_closed
    and ($days is null or list_contains($days, day))
    and history_is_complete
    and greatest(abs(billed_acus_of_products_with_sessions), abs(session_acus)) >= $least_acus
    -- guard: a residual of more than 5 % | = 'unexplained' -> = ''
    and status = 'unexplained'
order by day, org_id
