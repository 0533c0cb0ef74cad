-- One row per distinct pull request, whichever sessions link it.
--
-- Nearly every one is linked once, and there is nothing to choose between: these go a shorter way.
with
links as (
    select
        *,
        count(*) over (partition by host, repository, number, unidentified_url) as links_of_pull_request
    from (
        select
            *,
            case when number is null then url end as unidentified_url
        from session_pull_requests
        where url is not null
    ) as named
),

by_session as (
    select
        host,
        repository,
        number,
        unidentified_url,
        session_id,
        any_value(day) as day,
        any_value(org_id) as org_id,
        any_value(session_created_at) as session_created_at,
        any_value(session_updated_at) as session_updated_at,
        -- Of a session that lists a pull request twice, the last counts.
        last(url order by ordinal) as url,
        last(state order by ordinal) as state,
        sum(acus_share) as acus_share
    from links
    where links_of_pull_request > 1
    group by host, repository, number, unidentified_url, session_id
),

places as (
    select
        *,
        row_number() over (
            partition by host, repository, number, unidentified_url
            order by session_created_at, session_id
        ) as first_place,
        row_number() over (
            partition by host, repository, number, unidentified_url
            order by session_updated_at desc nulls last, session_id desc
        ) as newest_place
    from by_session
)

select
    first(url) filter (where newest_place = 1) as url,
    host,
    repository,
    number,
    first(state) filter (where newest_place = 1) as state,
    first(org_id) filter (where first_place = 1) as org_id,
    first(session_id) filter (where first_place = 1) as first_session_id,
    first(day) filter (where first_place = 1) as first_day,
    count(*) as sessions,
    sum(acus_share) as acus
from places
group by host, repository, number, unidentified_url
union all by name
select
    url,
    host,
    repository,
    number,
    state,
    org_id,
    session_id as first_session_id,
    day as first_day,
    1 as sessions,
    acus_share as acus
from links
where links_of_pull_request = 1
order by url
