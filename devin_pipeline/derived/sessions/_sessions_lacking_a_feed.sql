-- Sessions of a day that not every feed holds there. One that all feeds hold on one day is on no other.
select
    day,
    session_id
from _versions
group by day, session_id
having count(distinct feed) < $feeds
