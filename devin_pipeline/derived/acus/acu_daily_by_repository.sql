-- One row per day, organization, host and repository ((none) for both when none).
with
repositories as (
    select
        sessions.day,
        sessions.org_id,
        sessions.session_id,
        sessions.acus,
        case when links.repository is null then '(none)' else links.host end as host,
        coalesce(links.repository, '(none)') as repository,
        coalesce(min(links.ordinal), 0) as place
    from sessions
    left join session_pull_requests as links
        on sessions.day = links.day and sessions.session_id = links.session_id
    where sessions.day between $first_day and $last_day
    group by
        sessions.day,
        sessions.org_id,
        sessions.session_id,
        sessions.acus,
        case when links.repository is null then '(none)' else links.host end,
        coalesce(links.repository, '(none)')
),

places as (
    select
        *,
        count(*) over (partition by day, session_id) as repositories,
        row_number() over (partition by day, session_id order by place) as rank
    from repositories
)

select
    day,
    org_id,
    host,
    repository,
    count(*) as sessions,
    sum(acus) as acus_touching,
    sum(exact_share(acus, repositories, rank = 1)) as acus_split
from places
group by day, org_id, host, repository
order by day, org_id, host, repository
