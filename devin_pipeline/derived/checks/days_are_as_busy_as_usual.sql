-- No closed day has less than a quarter of the sessions that are usual for its weekday.
with
closed_days as (
    select
        unnest(generate_series(min(day)::timestamp, now()::timestamp - to_hours(24 + $hour), interval 1 day))::date
            as day
    from rows_per_day
),

counted as (
    select
        closed_days.day,
        coalesce(rows_per_day.rows, 0) as sessions
    from closed_days
    left join rows_per_day on closed_days.day = rows_per_day.day
),

compared as (
    select
        day,
        sessions,
        median(sessions) over earlier as usual,
        count(*) over earlier as weeks
    from counted
    window earlier as (partition by isodow(day) order by day rows between 8 preceding and 1 preceding)
)

select
    day,
    sessions,
    usual::bigint as usual
from compared
where
    weeks >= 3
    and usual >= 8
    -- guard: a day far too quiet | sessions * 4 < usual -> false
    and sessions * 4 < usual
    and day between coalesce($first_day, day) and coalesce($last_day, day)
order by day
