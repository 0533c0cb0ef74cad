-- One row per session, billing day on which it consumed ACUs, and method by which that day is known.
--
-- The first method that applies is taken. Per session the rows add up to its ACUs, to the last digit: what a method
-- leaves of them is a row of its own, never spread over the others.
with
counted_sessions as (
    select
        day,
        session_id,
        acus,
        (timezone('UTC', updated_at) - to_hours($hour))::date as updated_day
    from sessions
    where day between $first_day and $last_day and acus is not null
),

-- A tombstone, which has no payload, answers nothing.
latest_answers as (
    select
        session_id,
        session_acus,
        payload
    from raw_session_consumption
    where session_id in (select session_id from counted_sessions)
    -- guard: an older answer | fetched_at desc, day desc -> fetched_at asc, day desc
    qualify row_number() over (partition by session_id order by fetched_at desc, day desc) = 1
),

-- Numbers as texts that begin with `#`, as in consumption_daily.sql: DuckDB would return a double's digits.
answer_entries as (
    select
        session_id,
        session_acus,
        unnest(
            try(
                from_json(
                    regexp_replace(
                        payload, '"((?:[^"\\]|\\.)*)"|(-?(?:[0-9][-+.0-9eE]*|NaN|Infinity))', '"\1#\2"', 'g'
                    ),
                    '{"consumption_by_date#": [{"date#": "VARCHAR", "acus#": "VARCHAR"}]}'
                )
            )."consumption_by_date#"
        ) as entry
    from latest_answers
),

answer_amounts as (
    select
        session_id,
        session_acus,
        case
            when regexp_full_match(entry."date#", '#[0-9]{1,11}(?:\.[0-9]+)?')
                then (make_timestamp(1000000 * floor(entry."date#"[2:]::double)::bigint) - to_hours($hour))::date
        end as consumed_day,
        case
            when regexp_full_match(entry."acus#", '#-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?')
                then try_cast(entry."acus#"[2:] as decimal(38, 6))
        end as acus
    from answer_entries
),

answer_days as (
    select
        session_id,
        consumed_day,
        any_value(session_acus) as session_acus,
        sum(acus) as acus
    from answer_amounts
    where consumed_day is not null and abs(acus) < 1000000000
    group by session_id, consumed_day
),

answers as (
    select
        answer_days.session_id,
        any_value(answer_days.session_acus) as session_acus
    from answer_days
    inner join counted_sessions on answer_days.session_id = counted_sessions.session_id
    group by answer_days.session_id, counted_sessions.acus
    -- guard: an answer of zeros believed | counted_sessions.acus = 0 or bool_or(answer_days.acus <> 0) -> true
    having counted_sessions.acus = 0 or bool_or(answer_days.acus <> 0)
),

versions as (
    select
        session_id,
        updated_at,
        fetched_at,
        acus,
        precedence
    from (
        select
            session_id,
            updated_at,
            fetched_at,
            acus,
            is_listed,
            1 as precedence
        from raw_session_insights_v3
        union all
        select
            session_id,
            updated_at,
            fetched_at,
            acus,
            is_listed,
            2 as precedence
        from raw_sessions_v3
        union all
        select
            session_id,
            updated_at,
            fetched_at,
            acus,
            is_listed,
            3 as precedence
        from raw_session_insights_v2
    ) as all_versions
    where
        -- guard: ACUs of a tombstone | is_listed and -> true and
        is_listed and acus is not null and updated_at is not null
        and session_id in (
            select session_id
            from counted_sessions
            where updated_day is distinct from day
        )
),

changing_sessions as (
    select session_id
    from versions
    group by session_id
    having min(acus) <> max(acus)
),

methods as (
    select
        counted_sessions.*,
        answers.session_acus as asked_at_acus,
        case
            when answers.session_id is not null then 'api_daily'
            when counted_sessions.updated_day = counted_sessions.day then 'single_day'
            when changing_sessions.session_id is not null then 'version_delta'
            when counted_sessions.updated_day is not null then 'updated_day'
            else 'created_day'
        end as method
    from counted_sessions
    left join answers on counted_sessions.session_id = answers.session_id
    left join changing_sessions on counted_sessions.session_id = changing_sessions.session_id
),

growths as (
    select
        session_id,
        -- guard: days in the zone of the connection | timezone('UTC', updated_at) -> updated_at::timestamp
        (timezone('UTC', updated_at) - to_hours($hour))::date as consumed_day,
        acus - coalesce(
            lag(acus) over (
                partition by session_id
                -- The richest feed last, as its version is the one that counts now.
                -- guard: versions in the order they were fetched | updated_at asc, fetched_at asc -> fetched_at asc
                order by updated_at asc, fetched_at asc, precedence desc
            ),
            0
        ) as acus
    from versions
    where session_id in (select session_id from changing_sessions)
),

known_days as (
    select
        session_id,
        'api_daily' as method,
        consumed_day,
        acus
    from answer_days
    union all
    select
        session_id,
        'version_delta' as method,
        consumed_day,
        sum(acus) as acus
    from growths
    group by session_id, consumed_day
),

attributed_days as (
    select
        methods.day,
        methods.session_id,
        known_days.consumed_day,
        methods.method,
        known_days.acus
    from methods
    inner join known_days on methods.session_id = known_days.session_id and methods.method = known_days.method
    where methods.acus <> 0 and known_days.acus <> 0
),

attributed as (
    select
        session_id,
        sum(acus) as acus,
        max(consumed_day) filter (where acus > 0) as last_day
    from attributed_days
    group by session_id
)

select
    day,
    session_id,
    consumed_day,
    method as attribution_method,
    acus
from attributed_days
union all
select
    day,
    session_id,
    case when acus = 0 then day else coalesce(updated_day, day) end as consumed_day,
    method as attribution_method,
    acus
from methods
where acus = 0 or method not in ('api_daily', 'version_delta')
union all
select
    methods.day,
    methods.session_id,
    coalesce(
        -- What was consumed since the answer.
        -- guard: ACUs consumed after the answer | methods.asked_at_acus < methods.acus -> false
        case when methods.asked_at_acus < methods.acus then methods.updated_day end,
        attributed.last_day,
        methods.updated_day,
        methods.day
    ) as consumed_day,
    'remainder' as attribution_method,
    -- guard: what a method leaves of a session's ACUs | methods.acus - coalesce(attributed.acus, 0) -> methods.acus
    methods.acus - coalesce(attributed.acus, 0) as acus
from methods
left join attributed on methods.session_id = attributed.session_id
where
    methods.acus <> 0
    and methods.method in ('api_daily', 'version_delta')
    and methods.acus <> coalesce(attributed.acus, 0)
order by day, session_id, consumed_day, attribution_method
