-- On closed days, sessions explain what is billed for their products but for 1 %.
select
    day,
    -- A finding is read in many places: an id that is not plain is not shown.
    -- guard: an id with markup in a finding, bills_are_explained
    --   | regexp_full_match(org_id, '[A-Za-z0-9_.: ()-]{1,64}') -> true
    case when regexp_full_match(org_id, '[A-Za-z0-9_.: ()-]{1,64}') then org_id else '(unprintable)' end
        as organization,
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
order by day, organization
