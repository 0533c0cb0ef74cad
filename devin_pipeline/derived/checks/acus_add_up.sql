-- The ACUs rolled up here are those of sessions, to the last digit, per day and organization.
with
of_sessions as (
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
    coalesce(of_sessions.day, rolled_up.day) as day,
    sum(of_sessions.acus) as acus_of_sessions,
    sum(rolled_up.acus) as acus_rolled_up
from of_sessions
-- guard: a rollup of no organization | is not distinct from -> =
full join rolled_up on of_sessions.day = rolled_up.day and of_sessions.org_id is not distinct from rolled_up.org_id
where of_sessions.acus is distinct from rolled_up.acus
group by coalesce(of_sessions.day, rolled_up.day)
order by day
