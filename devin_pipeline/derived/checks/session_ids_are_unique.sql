-- Every session is one row, in one day.
select
    max(day) as day,
    count(*) as rows_of_one_session
from sessions
group by session_id
having count(*) > 1
order by day
