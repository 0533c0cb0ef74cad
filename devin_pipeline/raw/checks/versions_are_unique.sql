-- No session has two versions fetched at one instant.
select
    day,
    count(*) as versions_of_one_instant
from versions
group by day, session_id, fetched_at
having count(*) > 1
order by day
