-- No session is counted on two days, whichever days the run is over.
select
    max(day) as day,
    count(*) as days_of_one_session
from all_sessions
where session_id in (select session_id from sessions)
group by session_id
having count(distinct day) > 1
order by day
