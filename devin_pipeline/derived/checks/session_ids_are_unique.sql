-- Every session is one row a day.
select
    day,
    count(*) as rows_of_one_session
from sessions
group by day, session_id
having count(*) > 1
order by day
