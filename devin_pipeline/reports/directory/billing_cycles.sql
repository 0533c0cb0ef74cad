-- One row per billing cycle. A cycle that is not listed any more stays: it is history.
with
sent as (
    select
        object_id,
        fetched_at,
        is_listed_now,
        -- v3 sends seconds, v2 instants.
        coalesce(payload ->> '$.after', payload ->> '$.start') as sent_start,
        coalesce(payload ->> '$.before', payload ->> '$.end') as sent_end,
        try_cast(sent_start as double) as start_seconds,
        try_cast(sent_end as double) as end_seconds
    from _directory_versions
    where kind = 'cycles' and is_listed
),

cycles as (
    select
        *,
        coalesce(
            to_timestamp(case when start_seconds between 0 and 100000000000 then start_seconds end),
            try_cast(sent_start as timestamptz)
        ) as cycle_start,
        coalesce(
            to_timestamp(case when end_seconds between 0 and 100000000000 then end_seconds end),
            try_cast(sent_end as timestamptz)
        ) as cycle_end
    from sent
),

latest as (
    select
        cycle_start,
        cycle_end,
        is_listed_now,
        ((cycle_start at time zone 'UTC') - interval 8 hours)::date as first_day,
        -- guard: billing_cycles: the last day | - interval 1 microsecond
        ((cycle_end at time zone 'UTC') - interval 8 hours - interval 1 microsecond)::date as last_day
    from cycles
    where
        cycle_end > cycle_start
        and cycle_start >= timestamptz '1970-01-02 00:00:00+00'
        and cycle_end < timestamptz '6000-01-01 00:00:00+00'
    -- With another key, a cycle may be listed as the other version of the API spells it.
    qualify row_number() over (partition by cycle_start order by is_listed_now desc, fetched_at desc, object_id asc) = 1
),

with_today as (
    select
        *,
        coalesce((select _facts.today from _facts) between first_day and last_day, false) as holds_today
    from latest
)

select
    cycle_start,
    cycle_end,
    first_day,
    last_day,
    holds_today
    and row_number() over (order by holds_today desc, is_listed_now desc, cycle_start desc) = 1 as is_current
from with_today
order by cycle_start
