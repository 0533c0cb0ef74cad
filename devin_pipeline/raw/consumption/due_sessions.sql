-- One row per session whose days of consumption are to be asked for, dearest first.
--
-- It was created and last updated on different billing days, and its ACUs are not those at which it was last asked for.
-- A session without `updated_at`, without known ACUs, or that the API no longer lists is not asked for.
with
last_asked as (
    select
        session_id,
        session_acus
    from raw_session_consumption
    qualify row_number() over (partition by session_id order by fetched_at desc) = 1
)

select
    sessions.day,
    sessions.session_id,
    sessions.acus as session_acus,
    sessions.created_at,
    sessions.updated_at
from sessions
left join last_asked using (session_id)
where
    sessions.is_listed
    and timezone('UTC', sessions.created_at - to_hours($hour))::date
    <> timezone('UTC', sessions.updated_at - to_hours($hour))::date
    -- guard: a session whose ACUs are as they were, asked for again
    --   | and sessions.acus is distinct from last_asked.session_acus -> and true
    and sessions.acus is distinct from last_asked.session_acus
    and sessions.acus > 0
order by sessions.acus desc, sessions.session_id asc
