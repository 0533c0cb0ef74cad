-- One row per day of consumption, organization, user, service user, origin, category and playbook.
with
amounts as (
    select
        day,
        session_id,
        consumed_day,
        -- A session may have a remainder next to what is known of a day.
        sum(acus) as acus
    from session_acus_by_day
    group by day, session_id, consumed_day
)

select
    amounts.consumed_day as day,
    sessions.org_id,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id,
    sum(amounts.acus) as acus,
    -- guard: a session of no ACUs counted as active | filter (where amounts.acus > 0) -> filter (where true)
    count(*) filter (where amounts.acus > 0) as sessions_active
from amounts
left join sessions on amounts.day = sessions.day and amounts.session_id = sessions.session_id
group by
    amounts.consumed_day,
    sessions.org_id,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id
order by
    amounts.consumed_day,
    sessions.org_id,
    sessions.user_id,
    sessions.service_user_id,
    sessions.origin,
    sessions.category,
    sessions.playbook_id
