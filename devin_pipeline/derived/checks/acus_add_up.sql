-- The ACUs rolled up here are those of sessions, to the last digit, per day and organization.
with
told as (
    select
        day,
        org_id,
        sum(acus) as acus
    from sessions
    group by day, org_id
),

rolled_up as (
    select
        day,
        org_id,
        sum(acus) as acus
    from rollup
    group by day, org_id
)

select
    coalesce(told.day, rolled_up.day) as day,
    sum(told.acus) as acus_of_sessions,
    sum(rolled_up.acus) as acus_rolled_up
from told
-- guard: a rollup of no organization | is not distinct from -> =
full join rolled_up on told.day = rolled_up.day and told.org_id is not distinct from rolled_up.org_id
where told.acus is distinct from rolled_up.acus
group by coalesce(told.day, rolled_up.day)
order by day
