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
        from _session_sources
        inner join _parsed_versions as newest
            on
                _session_sources.session_id = newest.session_id
                and _session_sources.newest_feed = newest.feed
    ) as numbered
),

addresses as (
    select
        * exclude (pull_request, sent_as),
        lower(coalesce(nullif(pull_request.pr_state, ''), pull_request.state)) as state,
        sent_as.scheme,
        -- Without user info, which may hold a password.
        regexp_replace(sent_as.authority, '^.*@', '') as authority,
        case
            when contains(sent_as.path, '//') then regexp_replace(sent_as.path, '/{2,}', '/', 'g')
            else sent_as.path
        end as path
    from (
        select
            *,
            regexp_extract(
                trim(coalesce(nullif(pull_request.pr_url, ''), pull_request.url)),
                '^(?:([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*))?([^?#]*)',
                ['scheme', 'authority', 'path']
            ) as sent_as
        from sent
        where pull_request is not null
    ) as parsed
),

forms as (
    select
        *,
        case lower(scheme)
            when 'https' then regexp_replace(lower(authority), ':443$', '')
            when 'http' then regexp_replace(lower(authority), ':80$', '')
            else lower(authority)
        end as sent_host,
        -- What follows the first number (a tab, `.diff`) does not identify the pull request.
        case
            when scheme <> ''
                then regexp_extract(
                    path,
                    '^/(.*?/(?:pulls?|pull-requests|pullrequests?|merge_requests)/[0-9]+)(?:[^0-9A-Za-z_-]|$)',
                    1,
                    'i'
                )
        end as up_to_number,
        -- One alternative per form, the narrower ones first.
        regexp_extract(
            up_to_number,
            '^(?:'
            -- Azure DevOps, its page and its API.
            || '(?:(.+?)/)?(?:_git|_apis/git/repositories)/([^/]+)/pullrequests?'
            -- Bitbucket Server, its page and its API.
            || '|(?:.*?/)?(projects|users)/([^/]+/)repos/([^/]+)/pull-requests'
            -- GitHub, Gitea and Bitbucket Cloud, their pages and the API of the first two.
            || '|(?:.*?/)?([^/]+/[^/]+)/(?:pulls?|pull-requests)'
            || '|2\.0/repositories/([^/]+/[^/]+)/pullrequests'
            -- GitLab, its API and its page.
            || '|api/v4/projects/([^/]*[^/0-9][^/]*)/merge_requests'
            || '|([^/]+(?:/[^/]+)+?)(?:/-)?/merge_requests'
            || ')/([0-9]+)$',
            [
                'azure_scope', 'azure_repository', 'bitbucket_kind', 'bitbucket_key', 'bitbucket_name',
                'owner_and_name', 'bitbucket_repository', 'gitlab_project', 'group_and_name', 'number'
            ],
            'i'
        ) as form
    from addresses
),

scopes as (
    select
        *,
        case
            when sent_host = 'api.github.com' then 'github.com'
            when sent_host = 'api.bitbucket.org' then 'bitbucket.org'
            when sent_host like '%.visualstudio.com' then 'dev.azure.com'
            else sent_host
        end as page_host,
        -- Organization or collection, and project: the older form of a host has the organization in its name.
        case
            when sent_host like '%.visualstudio.com'
                then rtrim(
                    regexp_extract(sent_host, '^[^.]+') || '/'
                    || regexp_replace(form.azure_scope, '^DefaultCollection(?:/|$)', '', 'i'),
                    '/'
                )
            when sent_host = 'dev.azure.com' then form.azure_scope
            else regexp_replace(form.azure_scope, '^tfs(?:/|$)', '', 'i')
        end as azure_scope
    from forms
),

identified as (
    select
        * exclude (scheme, authority, path, up_to_number, form, azure_scope),
        case
            when form.azure_repository <> '' and contains(azure_scope, '/')
                then regexp_extract(azure_scope, '[^/]+/[^/]+$') || '/' || form.azure_repository
            -- Left out, the project has the name of the repository.
            when form.azure_repository <> '' and azure_scope <> ''
                then azure_scope || '/' || form.azure_repository || '/' || form.azure_repository
            when form.bitbucket_key <> ''
                then
                    case when lower(form.bitbucket_kind) = 'users' then '~' else '' end
                    || form.bitbucket_key || form.bitbucket_name
            when form.owner_and_name <> '' then form.owner_and_name
            when form.bitbucket_repository <> '' then form.bitbucket_repository
            when form.gitlab_project <> '' then form.gitlab_project
            -- A project of GitLab's API that is given by its number has no name here.
            when not starts_with(lower(form.group_and_name), 'api/v4/projects/') then nullif(form.group_and_name, '')
        end as repository_as_sent,
        try_cast(form.number as bigint) as number_as_sent,
        scheme || '://' || authority || '/' || up_to_number as url_up_to_number,
        case
            when scheme = '' then nullif(rtrim(path, '/'), '')
            else lower(scheme) || '://' || sent_host || rtrim(path, '/')
        end as normalised_url
    from scopes
),

normalised as (
    select
        * exclude (repository_as_sent, number_as_sent, url_up_to_number, normalised_url, page_host, sent_host),
        case when is_identified then url_up_to_number else normalised_url end as url,
        nullif(case when is_identified then page_host else sent_host end, '') as host,
        case
            when is_identified and contains(repository_as_sent, '%')
                then lower(coalesce(try(url_decode(repository_as_sent)), repository_as_sent))
            when is_identified then lower(repository_as_sent)
        end as repository,
        case when is_identified then number_as_sent end as number
    from (
        select
            *,
            page_host <> '' and repository_as_sent is not null and number_as_sent is not null as is_identified
        from identified
    ) as judged
),

places as (
    select
        *,
        row_number() over (partition by day, session_id, host, repository, number, other_url order by ordinal)
            as occurrence,
        ordinal = min(ordinal) filter (where url is not null) over (partition by day, session_id) as is_first
    from (
        select
            *,
            case when number is null then url end as other_url
        from normalised
    ) as named
),

shares as (
    select
        *,
        -- Each distinct one once: by its first link.
        nullif(
            count(*) filter (where url is not null and occurrence = 1) over (partition by day, session_id), 0
        ) as pull_requests
    from places
)

select
    day,
    session_id,
    ordinal,
    url,
    host,
    repository,
    number,
    state,
    org_id,
    session_created_at,
    session_updated_at,
    case when url is not null and occurrence = 1 then exact_share(acus, pull_requests, is_first) end as acus_share
from shares
order by day, session_id, ordinal
