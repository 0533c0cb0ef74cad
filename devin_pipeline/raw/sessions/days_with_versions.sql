-- Pairs of days that have versions of one session that moves now, those included that it left before.
with
moving as (
    select distinct session_id
    from moves
    where moved_to is not null
),

days_of_sessions as (
    select
        session_id,
        day
    from holdings
    union
    select
        session_id,
        moved_to as day
    from moves
)

select distinct
    one.day,
    other.day as other_day
from days_of_sessions as one
inner join days_of_sessions as other on one.session_id = other.session_id and one.day < other.day
semi join moving on one.session_id = moving.session_id
