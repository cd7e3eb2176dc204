//! The nodes of a cluster among themselves: signs of life, the one that leads, and questions, by way of Redis only.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiercast::cluster::{Cluster, NodeId};
use tiercast::config;
use tiercast::redis::Redis;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::kit::{DEADLINE, Proxy, RedisOptions, RedisServer, eventually};

/// After how many milliseconds without a sign of life nodes count as gone here.
const NODE_TIMEOUT_MS: u64 = 1_000;

/// How long questions wait here.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(700);

/// A node without the rest of a server.
struct Member {
    cluster: Arc<Cluster>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Member {
    async fn start(url: &str, id: &str) -> Self {
        Self::try_start(url, id).await.expect("it joins")
    }

    async fn try_start(url: &str, id: &str) -> Result<Self, String> {
        Self::with(url, id, |_| {}).await
    }

    async fn with(url: &str, id: &str, configure: impl FnOnce(&mut config::Cluster)) -> Result<Self, String> {
        let mut config = config::Cluster {
            redis_urls: vec![url.to_owned().into()],
            redis_timeout_ms: 400,
            node_id: id.to_owned(),
            heartbeat_ms: 100,
            node_timeout_ms: NODE_TIMEOUT_MS,
            request_timeout_ms: REQUEST_TIMEOUT.as_millis() as u64,
            ..config::Cluster::default()
        };
        configure(&mut config);
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let redis = Redis::open(&config, 1)?;
        let cluster = Cluster::start(&config, redis, &tasks, &stopping).await?;
        cluster.answer("echo", |word: String| async move { word });
        cluster.listen();
        Ok(Self { cluster, tasks, stopping })
    }

    /// Ends in good order, or as if killed.
    async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        tokio::time::timeout(DEADLINE, self.tasks.wait()).await.expect("its tasks end");
    }

    fn names(&self) -> Vec<String> {
        self.cluster.nodes().iter().map(|node| node.id.to_string()).collect()
    }

    async fn sees(&self, names: &[&str]) {
        let mut changes = self.cluster.changes();
        let seen = changes.wait_for(|nodes| nodes.iter().map(|node| node.id.as_str()).eq(names.iter().copied()));
        let seen = tokio::time::timeout(DEADLINE, seen).await.is_ok();
        assert!(seen, "{} sees {:?}, not {names:?}", self.cluster.id(), self.names());
    }

    async fn leads(&self, leads: bool) {
        let mut leading = self.cluster.leading();
        let led = tokio::time::timeout(DEADLINE, leading.wait_for(|now| *now == leads)).await;
        assert!(led.is_ok(), "{} leads: {}", self.cluster.id(), !leads);
    }
}

/// A node whose way to Redis can be cut.
async fn behind_proxy(redis: &RedisServer, id: &str) -> (Member, Proxy) {
    let proxy = Proxy::to(redis.address()).await;
    (Member::start(&redis.url_at(proxy.address), id).await, proxy)
}

fn id(name: &str) -> NodeId {
    NodeId::new(name)
}

#[tokio::test]
async fn nodes_find_each_other_and_are_told_who_goes() {
    let redis = RedisServer::start();
    // Too seldom to be noticed here by signs of life.
    let seldom = |config: &mut config::Cluster| (config.heartbeat_ms, config.node_timeout_ms) = (60_000, 120_000);
    let one = Member::with(&redis.url(), "one", seldom).await.expect("it joins");
    let two = Member::with(&redis.url(), "two", seldom).await.expect("it joins");
    assert_eq!(two.names(), ["one", "two"], "known from the first moment");
    one.sees(&["one", "two"]).await;
    assert_ne!(one.cluster.number(), two.cluster.number());
    two.stop().await;
    one.sees(&["one"]).await;
    one.stop().await;
    assert_eq!(redis.run::<Vec<String>>("zrange {tiercast:0}:nodes 0 -1"), [""; 0]);
}

#[tokio::test]
async fn a_node_without_a_sign_of_life_is_gone_and_comes_back() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    let (two, way) = behind_proxy(&redis, "two").await;
    one.sees(&["one", "two"]).await;
    let number = two.cluster.number().expect("a number");
    way.cut();
    one.sees(&["one"]).await;
    eventually("two knows its number no more", async || two.cluster.number().is_none()).await;
    assert_eq!(two.names(), ["one", "two"], "those who lived when it last heard of them");
    way.mend();
    one.sees(&["one", "two"]).await;
    eventually("two has a number", async || two.cluster.number() == Some(number)).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn one_node_leads_and_another_after_it() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    one.leads(true).await;
    let (two, way) = behind_proxy(&redis, "two").await;
    one.sees(&["one", "two"]).await;
    assert!(!two.cluster.is_leader());
    assert_eq!(two.cluster.leader(), Some(id("one")));
    one.stop().await;
    two.leads(true).await;
    let three = Member::start(&redis.url(), "three").await;
    assert_eq!(three.cluster.leader(), Some(id("two")));
    // It cannot know any more whether it leads, so another does only when it has stopped to.
    way.freeze();
    three.leads(true).await;
    assert!(!two.cluster.is_leader(), "two lead");
    assert!(!*two.cluster.leading().borrow(), "and it was told");
    way.mend();
    eventually("two knows who leads", async || two.cluster.leader() == Some(id("three"))).await;
    // A node that lets nobody in leaves it to others, if there are some.
    three.cluster.drain();
    two.leads(true).await;
    two.cluster.drain();
    eventually("both drain", async || two.cluster.nodes().iter().all(|node| node.draining)).await;
    three.stop().await;
    two.leads(true).await;
    two.stop().await;
}

#[tokio::test]
async fn a_node_that_gets_its_answers_too_late_leads_no_more_and_another_does() {
    let redis = RedisServer::start();
    // It has the patience to wait for answers that come after its lease.
    let patient = |config: &mut config::Cluster| config.redis_timeout_ms = 4_000;
    let proxy = Proxy::to(redis.address()).await;
    let late = Member::with(&redis.url_at(proxy.address), "late", patient).await.expect("it joins");
    late.leads(true).await;
    let other = Member::start(&redis.url(), "other").await;
    proxy.slow_down(Duration::from_millis(NODE_TIMEOUT_MS * 95 / 100));
    late.leads(false).await;
    other.leads(true).await;
    proxy.mend();
    late.sees(&["late", "other"]).await;
    other.stop().await;
    late.leads(true).await;
    late.stop().await;
}

#[tokio::test]
async fn a_redis_that_forgets_changes_neither_leader_nor_numbers() {
    let mut redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    one.leads(true).await;
    let two = Member::start(&redis.url(), "two").await;
    one.sees(&["one", "two"]).await;
    let numbers = || (one.cluster.number(), two.cluster.number());
    let before = numbers();
    let mut leading = (one.cluster.leading(), two.cluster.leading());
    leading.0.mark_unchanged();
    leading.1.mark_unchanged();
    redis.run::<()>("flushall");
    let three = Member::start(&redis.url(), "three").await;
    three.sees(&["one", "three", "two"]).await;
    two.sees(&["one", "three", "two"]).await;
    assert_eq!((numbers(), three.cluster.leader()), (before, Some(id("one"))));
    assert!(!leading.0.has_changed().unwrap() && !leading.1.has_changed().unwrap(), "nobody else led meanwhile");
    redis.restart_empty();
    eventually("both know each other again", async || {
        redis.run::<usize>("zcard {tiercast:0}:nodes") == 3 && numbers() == before
    })
    .await;
    for member in [one, two, three] {
        member.stop().await;
    }
}

#[tokio::test]
async fn a_name_belongs_to_one_node() {
    let redis = RedisServer::start();
    let (one, way) = behind_proxy(&redis, "one").await;
    let refused = Member::try_start(&redis.url(), "one").await.map(|_| ()).expect_err("it is taken");
    assert!(refused.contains("\"one\"") && refused.contains("cluster.node_id"), "{refused}");
    // As if it were killed: the next process of the name waits until it counts as gone.
    way.cut();
    let next = Member::start(&redis.url(), "one").await;
    assert_eq!(next.names(), ["one"]);
    assert_ne!(next.cluster.me().incarnation, one.cluster.me().incarnation);
    // The one before is no node any more when it comes back.
    way.mend();
    next.leads(true).await;
    let two = Member::start(&redis.url(), "two").await;
    assert_eq!(two.cluster.ask::<String>("echo", &"who").await.answers.len(), 1);
    assert!(one.cluster.number().is_none() && !one.cluster.is_leader());
    one.stop().await;
    next.sees(&["one", "two"]).await;
    let unreachable = Member::try_start("redis://127.0.0.1:1/", "three").await.map(|_| ()).expect_err("no Redis");
    assert!(unreachable.contains("127.0.0.1:1"), "{unreachable}");
    next.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_question_is_answered_by_all_or_names_those_who_did_not() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    let two = Member::start(&redis.url(), "two").await;
    let three = Member::start(&redis.url(), "three").await;
    one.sees(&["one", "three", "two"]).await;
    let all = one.cluster.ask::<String>("echo", &"word").await;
    let mut nodes: Vec<_> = all.answers.iter().map(|answer| answer.node.to_string()).collect();
    nodes.sort();
    assert_eq!(nodes, ["three", "two"]);
    assert!(all.answers.iter().all(|answer| answer.answer == "word") && all.unanswered.is_empty());
    assert_eq!(one.cluster.ask_one::<String>(&id("two"), "echo", &"you").await.as_deref(), Some("you"));
    assert_eq!(one.cluster.ask_one::<String>(&id("four"), "echo", &"you").await, None);

    // One that never answers, one that does not know the kind.
    two.cluster.answer("slow", |(): ()| pending::<()>());
    let asked = Instant::now();
    let none = one.cluster.ask::<()>("slow", &()).await;
    assert!(none.answers.is_empty());
    assert_eq!(none.unanswered.len(), 2, "{:?}", none.unanswered);
    assert!(asked.elapsed() >= REQUEST_TIMEOUT && asked.elapsed() < 2 * REQUEST_TIMEOUT, "{:?}", asked.elapsed());
    let asked = Instant::now();
    assert_eq!(one.cluster.ask_one::<()>(&id("three"), "slow", &()).await, None);
    assert!(asked.elapsed() < REQUEST_TIMEOUT, "who cannot answer says so");

    // With the first answer that is enough nobody is waited for.
    three.cluster.answer("slow", |(): ()| async {});
    let asked = Instant::now();
    let first = one.cluster.ask_until::<()>("slow", &(), |()| true).await;
    assert_eq!((first.answers.len(), first.unanswered.len()), (1, 0));
    assert!(asked.elapsed() < REQUEST_TIMEOUT);

    let figures = one.cluster.figures().expect("figures");
    assert_eq!((figures.nodes_living, figures.questions_asked, figures.questions_unanswered), (3, 8, 3));
    for member in [one, two, three] {
        member.stop().await;
    }
}

#[tokio::test]
async fn a_frozen_node_answers_nothing_that_is_too_late() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    let (two, way) = behind_proxy(&redis, "two").await;
    one.sees(&["one", "two"]).await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    two.cluster.answer("note", move |word: String| {
        let heard = heard.clone();
        async move { heard.send(word).unwrap() }
    });
    way.freeze();
    let late = one.cluster.ask::<()>("note", &"late").await;
    assert_eq!((late.answers.len(), late.unanswered), (0, vec![id("two")]));
    way.mend();
    // Both are in its inbox, in this order, and only one of them is still asked.
    eventually("two answers", async || !one.cluster.ask::<()>("note", &"in time").await.answers.is_empty()).await;
    assert_eq!(hears.recv().await.as_deref(), Some("in time"));
    assert_eq!(redis.run::<usize>(&format!("xlen {{tiercast:0}}:inbox:two:{}", two.cluster.me().incarnation)), 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_others_are_named_at_once() {
    let mut redis = RedisServer::with(RedisOptions::default());
    let one = Member::start(&redis.url(), "one").await;
    let two = Member::start(&redis.url(), "two").await;
    one.sees(&["one", "two"]).await;
    assert!(one.cluster.is_well());
    redis.stop();
    eventually("it is noticed", async || !one.cluster.is_well()).await;
    let asked = Instant::now();
    let nobody = one.cluster.ask::<String>("echo", &"word").await;
    assert_eq!((nobody.answers.len(), nobody.unanswered), (0, vec![id("two")]));
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    assert!(!one.cluster.tell("echo", &"word").await);
    let figures = one.cluster.figures().expect("figures");
    assert!(!figures.redis[0].answers && figures.redis[0].server.contains(&redis.port.to_string()));
    redis.start_again();
    eventually("two answers", async || one.cluster.ask::<String>("echo", &"w").await.unanswered.is_empty()).await;
    assert!(one.cluster.is_well());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_full_redis_lets_nodes_live_and_answers_nothing() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    let two = Member::start(&redis.url(), "two").await;
    one.sees(&["one", "two"]).await;
    redis.run::<()>("config set maxmemory 1");
    let gone_at = || redis.run::<f64>("zscore {tiercast:0}:nodes two");
    let before = gone_at();
    eventually("it lives beyond that", async || gone_at() > before + NODE_TIMEOUT_MS as f64).await;
    let nobody = one.cluster.ask::<String>("echo", &"word").await;
    assert_eq!((nobody.answers.len(), nobody.unanswered), (0, vec![id("two")]));
    assert!(one.cluster.is_well(), "it answers, if not as one would like");
    redis.run::<()>("config set maxmemory 0");
    assert!(one.cluster.ask::<String>("echo", &"word").await.unanswered.is_empty());
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn news_reach_all_others() {
    let redis = RedisServer::start();
    let one = Member::start(&redis.url(), "one").await;
    let two = Member::start(&redis.url(), "two").await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    for member in [&one, &two] {
        let (heard, name) = (heard.clone(), member.cluster.id().clone());
        member.cluster.answer("news", move |word: String| {
            let (heard, name) = (heard.clone(), name.clone());
            async move { heard.send((name, word)).unwrap() }
        });
    }
    assert!(two.cluster.tell("news", &"from two").await);
    assert_eq!(hears.recv().await, Some((id("one"), "from two".to_owned())));
    one.sees(&["one", "two"]).await;
    assert!(one.cluster.tell("news", &"from one").await);
    assert_eq!(hears.recv().await, Some((id("two"), "from one".to_owned())));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_server_alone_leads_and_has_nobody_to_ask() {
    let cluster = Cluster::alone();
    assert!(cluster.is_alone() && cluster.is_leader() && cluster.is_well());
    assert_eq!((cluster.number(), cluster.nodes().len(), cluster.figures()), (Some(0), 1, None));
    let nobody = cluster.ask::<()>("anything", &()).await;
    assert!(nobody.answers.is_empty() && nobody.unanswered.is_empty());
}

#[tokio::test]
async fn a_node_that_finds_shards_elsewhere_does_not_start() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let urls = servers.each_ref().map(RedisServer::url);
    let both = |config: &mut config::Cluster| config.redis_urls = urls.clone().map(Into::into).into();
    let one = Member::with("", "one", both).await.expect("it joins");
    let mut refused = Vec::new();
    for url in &urls {
        match Member::try_start(url, "two").await {
            Ok(alone) => alone.stop().await,
            Err(error) => refused.push(error),
        }
    }
    // The other server has no nodes to meet.
    let [refused] = &refused[..] else { panic!("{refused:?}") };
    assert!(refused.contains("are a single one, and those of node \"one\" are 127.0.0.1:"), "{refused}");
    one.sees(&["one"]).await;
    let three = Member::with("", "three", |config| {
        both(config);
        config.redis_urls.reverse();
    });
    let three = three.await.expect("the order does not matter");
    one.sees(&["one", "three"]).await;
    three.stop().await;
    one.stop().await;
}
