//! `GET /presence`: the users who are there on any node.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use crate::cluster::NodeId;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::presence::{Filter, Listing, UserView};
use crate::rooms::Id;
use crate::wire::WireError;

/// Users in an answer when the caller does not say.
const PAGE: usize = 1_000;

/// `?organization_id=&user_id=&channel=&include=&cursor=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Request {
    organization_id: Option<String>,
    user_id: Option<String>,
    channel: Option<String>,
    include: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// The users of an organization who are there, filtered and in pages; none of one that the caller may not know of.
pub(in crate::doors) async fn list(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    request: Result<Query<Request>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let Query(request) = request?;
    let presence = doors.sessions.presence();
    if !presence.is_on() {
        return Err(ApiError::not_found("nobody asks who is there; set presence.enabled"));
    }
    let Some(organization) = &request.organization_id else {
        return Err(ApiError::bad_request("organization_id is required"));
    };
    let organization = Id::parse(organization).map_err(|error| WireError::malformed("organization_id", &error))?;
    let with_offline = match request.include.as_deref() {
        None => false,
        Some("offline") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!("include may be \"offline\", and is {other:?}")));
        }
    };
    let _follower = doors.hub.up_to_date(Some(&organization)).await;
    let filter = Filter {
        user: request.user_id.as_deref(),
        channel: request.channel.as_deref(),
        with_offline,
        after: request.cursor.as_deref(),
        limit: request.limit.unwrap_or(PAGE).clamp(1, PAGE),
    };
    let (listing, unanswered) = if caller.may_touch(Some(&organization)) {
        everywhere(&doors, &organization, &filter).await?
    } else {
        (Listing { users: Vec::new(), total: 0, more: false }, Vec::new())
    };
    let mut answer = json!({
        "success": true,
        "organization_id": organization,
        "users": listing.users,
        "total_count": listing.total,
    });
    if listing.more {
        answer["next_cursor"] = json!(listing.users.last().map(|view| &view.user_id));
    }
    others::name(&unanswered, &mut answer);
    Ok(Json(answer))
}

/// Questions to other nodes: who is listed, and how some users are there.
const WHO: &str = "presence_of_whom";
const HOW: &str = "presence";

pub(super) fn answer_others(doors: &Arc<Doors>) {
    others::answer(doors, WHO, |doors, (organization, whole): (Id, Whole)| -> Vec<Id> {
        doors.sessions.presence().who(&organization, &whole.filter()).unwrap_or_default()
    });
    others::answer(doors, HOW, |doors, (organization, users): (Id, Vec<Id>)| -> Vec<UserView> {
        doors.sessions.presence().views(&organization, &users)
    });
}

/// A filter without pages.
#[derive(Serialize, Deserialize)]
struct Whole {
    user: Option<String>,
    channel: Option<String>,
    with_offline: bool,
}

impl Whole {
    fn filter(&self) -> Filter<'_> {
        let Self { user, channel, with_offline } = self;
        Filter { user: user.as_deref(), channel: channel.as_deref(), with_offline: *with_offline, ..Filter::default() }
    }
}

/// A page of the users of all nodes: who is on it first, since a user may be listed for one node's sockets and has
/// others, and then how they are there. Tells which nodes do not say.
async fn everywhere(
    doors: &Doors,
    organization: &Id,
    filter: &Filter<'_>,
) -> Result<(Listing, Vec<NodeId>), WireError> {
    let presence = doors.sessions.presence();
    if doors.cluster.is_alone() {
        return Ok((presence.list(organization, filter)?, Vec::new()));
    }
    let mut users: BTreeSet<Id> = presence.who(organization, filter)?.into_iter().collect();
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let whole = Whole { user: owned(filter.user), channel: owned(filter.channel), with_offline: filter.with_offline };
    let asked = doors.cluster.ask::<Vec<Id>>(WHO, &(organization, &whole)).await;
    users.extend(asked.answers.into_iter().flat_map(|answer| answer.answer));
    let total = users.len();
    let after = filter.after.unwrap_or_default();
    let mut page: Vec<Id> = users.into_iter().filter(|user| user.as_str() > after).collect();
    let more = page.len() > filter.limit;
    page.truncate(filter.limit);
    let views = doors.cluster.ask::<Vec<UserView>>(HOW, &(organization, &page)).await;
    let mut found: BTreeMap<Id, UserView> = BTreeMap::new();
    for view in presence
        .views(organization, &page)
        .into_iter()
        .chain(views.answers.into_iter().flat_map(|answer| answer.answer))
    {
        match found.entry(view.user_id.clone()) {
            Entry::Occupied(mut known) => known.get_mut().join(view),
            Entry::Vacant(place) => drop(place.insert(view)),
        }
    }
    let unanswered: BTreeSet<NodeId> = asked.unanswered.into_iter().chain(views.unanswered).collect();
    let listing = Listing { users: found.into_values().collect(), total, more };
    Ok((listing, unanswered.into_iter().collect()))
}
