-- The days of each session that several days hold.
with
on_several_days as (
    select session_id
    from _versions
    group by session_id
    having min(day) <> max(day)
)

select distinct
    day,
    session_id
from _versions
where session_id in (select session_id from on_several_days)
