-- On closed days, sessions explain what is billed for their products but for 5 %.
select
    day,
    -- A finding is read in many places: an id that is not plain is not shown.
    -- guard: an id with markup in a finding, residuals_are_small
    --   | regexp_full_match(org_id, '[A-Za-z0-9_.: ()-]{1,64}') -> true
    case when regexp_full_match(org_id, '[A-Za-z0-9_.: ()-]{1,64}') then org_id else '(unprintable)' end
        as organization,
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
order by day, organization
