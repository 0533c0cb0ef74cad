-- One row per session and pull request it links, as sent.
with
sent as (
    select
        * exclude (pull_requests),
        pull_requests[ordinal + 1] as pull_request
    from (
        select
            newest.day,
            newest.session_id,
            newest.org_id,
            newest.acus,
            newest.created_at as session_created_at,
            newest.updated_at as session_updated_at,
            newest.pull_requests,
            unnest(range(len(newest.pull_requests)))::integer as ordinal
        from told_sessions
        inner join tellings as newest
            on
                told_sessions.day = newest.day
                and told_sessions.session_id = newest.session_id
                and told_sessions.newest_feed = newest.feed
    ) as numbered
),

with_url as (
    select
        * exclude (pull_request),
        lower(coalesce(nullif(pull_request.pr_state, ''), pull_request.state)) as state,
        regexp_extract(
            coalesce(nullif(pull_request.pr_url, ''), pull_request.url),
            '^(?:([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*))?([^?#]*)',
            ['scheme', 'authority', 'path']
        ) as parts
    from sent
    where pull_request is not null
),

with_path as (
    select
        * exclude (parts),
        parts.scheme,
        lower(parts.authority) as authority,
        rtrim(regexp_replace(rtrim(parts.path, '/'), '/(files|commits|diffs)$', ''), '/') as path
    from with_url
),

normalised as (
    select
        * exclude (scheme, authority, path),
        case when scheme = '' then nullif(path, '') else lower(scheme) || '://' || authority || path end as url,
        nullif(regexp_replace(authority, '^.*@', ''), '') as host,
        regexp_extract(
            path,
            '^/(.+?)/(?:pull|pulls|pull-requests|merge_requests|-/merge_requests)/([0-9]{1,18})(?:/.*)?$',
            ['repository', 'number']
        ) as parsed
    from with_path
),

places as (
    select
        *,
        row_number() over (partition by day, session_id, url order by ordinal) as occurrence,
        count(distinct url) over (partition by day, session_id) as distinct_urls
    from normalised
),

shares as (
    select
        *,
        (acus::decimal(38, 6) * 1000000)::hugeint // nullif(distinct_urls, 0) as share,
        (acus::decimal(38, 6) * 1000000)::hugeint % nullif(distinct_urls, 0) as remainder,
        ordinal = min(ordinal) filter (where url is not null) over (partition by day, session_id) as is_first
    from places
)

select
    day,
    session_id,
    ordinal,
    url,
    host,
    nullif(parsed.repository, '') as repository,
    nullif(parsed.number, '')::bigint as number,
    state,
    org_id,
    session_created_at,
    session_updated_at,
    -- Shared in whole micro-units, since a decimal divided is a double.
    case
        when url is not null and occurrence = 1
            then (share + case when is_first then remainder else 0 end) * 0.000001
    end as acus_share
from shares
order by day, session_id, ordinal
