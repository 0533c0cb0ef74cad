-- One row per distinct pull request, whichever sessions link it.
--
-- Nearly every one is linked once, and there is nothing to choose between: these go a shorter way.
with
links as (
    select
        *,
        count(*) over (partition by url) as links_of_url
    from session_pull_requests
    where url is not null
),

by_session as (
    select
        url,
        session_id,
        any_value(day) as day,
        any_value(org_id) as org_id,
        any_value(repository) as repository,
        any_value(session_created_at) as session_created_at,
        any_value(session_updated_at) as session_updated_at,
        -- A session that lists a pull request twice tells its state last.
        last(state order by ordinal) as state,
        sum(acus_share) as acus_share
    from links
    where links_of_url > 1
    group by url, session_id
),

places as (
    select
        *,
        row_number() over (partition by url order by session_created_at, session_id) as first_place,
        row_number() over (
            partition by url
            order by session_updated_at desc nulls last, session_id desc
        ) as newest_place
    from by_session
)

select
    url,
    any_value(repository) as repository,
    first(state) filter (where newest_place = 1) as state,
    first(org_id) filter (where first_place = 1) as org_id,
    first(session_id) filter (where first_place = 1) as first_session_id,
    first(day) filter (where first_place = 1) as first_day,
    count(*) as sessions,
    sum(acus_share) as acus
from places
group by url
union all by name
select
    url,
    repository,
    state,
    org_id,
    session_id as first_session_id,
    day as first_day,
    1 as sessions,
    acus_share as acus
from links
where links_of_url = 1
order by url
