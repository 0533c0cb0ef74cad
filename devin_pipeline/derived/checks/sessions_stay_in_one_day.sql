-- No session is told on two days, as it would be if the API changed when it was created.
select
    max(day) as day,
    count(*) as days_of_one_session
from sessions
group by session_id
having count(distinct day) > 1
order by day
