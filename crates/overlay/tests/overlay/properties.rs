//! What holds for any set of documents, however they came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use sinew_overlay::{Clock, DocumentSet, Draft, Fate, Grant, NO_GRANT, Range4, Signed, State, judge};
use sinew_types::{Identity, NetworkId};
use sinew_wire::document::{
    Body, Head, Invite, InviteMode, Member, Net, PolicySpec, Revoke, Subnet4, Workload, kind,
};

use crate::world::{identity, label, range};

const OWNER: u16 = 100;
const ADMINS: [u16; 2] = [101, 102];
const TICKET: u16 = 103;
const NOW: u64 = 1_800_000_000;

fn network() -> NetworkId {
    NetworkId::new(identity(OWNER).node_id())
}

fn subnet(number: u16) -> Option<Subnet4> {
    Some(Subnet4 { first: [10, 77, number as u8, 0].into(), len: 24 })
}

/// One document, by small numbers, so that documents meet in the same slots.
#[derive(Clone, Debug)]
struct Recipe {
    author: usize,
    kind: u8,
    subject: u16,
    era: u16,
    n: u16,
    seq: u64,
    number: u16,
    grant: usize,
    expires: u64,
    flag: bool,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let kinds = prop::sample::select(vec![3u8, 3, 3, 4, 4, 5, 6, 6, 6, 7, 8, 10]);
    let numbers = (0usize..4, kinds, 1u16..5, 0u16..3, 0u16..3, 1u64..4);
    let more = (
        prop_oneof![2 => Just(0u16), 1 => 1u16..9],
        0usize..6,
        prop::sample::select(vec![0u64, NOW - 5, NOW + 900]),
        any::<bool>(),
    );
    (numbers, more).prop_map(|((author, kind, subject, era, n, seq), (number, grant, expires, flag))| {
        // Mostly a number that the author may give, and the subject's own.
        let number = if number > 0 { number } else { subject + 4 * u16::from(author == 2) };
        Recipe { author, kind, subject, era, n, seq, number, grant, expires, flag }
    })
}

fn draft(subject: [u8; 32], generation: u32, seq: u64, body: Body) -> Draft {
    Draft {
        network: network(),
        grant: NO_GRANT,
        subject,
        generation,
        seq,
        issued: NOW - 100,
        expires: 0,
        body,
    }
}

/// What everything rests on: two eras of NET, grants of two generations, a bearer ticket.
fn ground() -> Vec<Signed> {
    let owner = identity(OWNER);
    let id = *network().as_bytes();
    let net = |era: u32, seq| {
        let body = Net { name: label("lab"), range: Some(range()), strict: false };
        draft(id, era << 16, seq, Body::Net(body)).sign(&owner)
    };
    let grant = |admin: u16, generation, numbers| {
        let body = Body::Grant(Grant { scopes: Grant::ALL, numbers, longest: None });
        draft(*identity(admin).node_id().as_bytes(), generation, 1, body).sign(&owner)
    };
    let invite = Invite {
        mode: InviteMode::Bearer,
        uses: 1,
        groups: vec![],
        acceptors: vec![],
        approval: false,
        number: Some(4),
        subnet: subnet(4),
    };
    let ticket = *identity(TICKET).node_id().as_bytes();
    vec![
        net(0, 1),
        net(1, 2),
        grant(ADMINS[0], 0, (1, 3)),
        grant(ADMINS[0], 1 << 16, (1, 3)),
        grant(ADMINS[1], 0, (5, 8)),
        draft(ticket, 1, 1, Body::Invite(invite)).sign(&owner),
    ]
}

fn body(recipe: &Recipe) -> ([u8; 32], Body) {
    let key = |n: u16| *identity(n).node_id().as_bytes();
    let network = *network().as_bytes();
    let number = recipe.number;
    let place = |n: u16| {
        let mut subject = [0; 32];
        subject[31] = n as u8;
        subject
    };
    match recipe.kind {
        kind::MEMBER => {
            let ticket = (recipe.author == 3).then(|| key(TICKET));
            let since = NOW - u64::from(recipe.n);
            let (groups, subnet) = (vec![], subnet(number));
            (key(recipe.subject), Body::Member(Member { number, subnet, groups, since, ticket, name: None }))
        }
        kind::REVOKE => {
            let targets = [kind::MEMBER, kind::MEMBER, kind::GRANT, kind::WORKLOAD, kind::INVITE];
            let target = targets[usize::from(number) % targets.len()];
            let subject = match target {
                kind::GRANT => key(ADMINS[usize::from(recipe.subject) % 2]),
                kind::INVITE => key(TICKET),
                _ => key(recipe.subject),
            };
            (subject, Body::Revoke(Revoke { target }))
        }
        kind::POLICY => (network, Body::Policy(PolicySpec { default_allow: recipe.flag, rules: vec![] })),
        kind::HEAD => (network, Body::Head(Head { digest: [recipe.number as u8; 32], revocations: vec![] })),
        kind::INVITE => {
            let invite = Invite {
                mode: InviteMode::Counted,
                uses: number,
                groups: vec![],
                acceptors: vec![],
                approval: false,
                number: None,
                subnet: None,
            };
            (key(TICKET + 1), Body::Invite(invite))
        }
        _ => {
            let plan = sinew_overlay::Plan::new(&self::network(), Some(range()));
            let (ipv4, ipv6) = plan.subnets(number).expect("a number").host(u32::from(recipe.n) + 2);
            let name = label(["web", "db"][usize::from(recipe.flag)]);
            let keyed = recipe.flag;
            let subject = if keyed { key(50) } else { place(recipe.n + 2) };
            let removed = recipe.seq == 3;
            let (since, groups, services) = (NOW - recipe.seq, None, vec![]);
            let body = Workload { name, ipv4, ipv6, groups, services, keyed, removed, since };
            (subject, Body::Workload(body))
        }
    }
}

fn sign(recipe: &Recipe, ground: &[Signed]) -> Signed {
    let (subject, body) = body(recipe);
    let head = recipe.kind == kind::HEAD;
    let n = if head { 0 } else { recipe.n };
    let generation = u32::from(recipe.era) << 16 | u32::from(n);
    let mut draft = draft(subject, generation, recipe.seq, body);
    if matches!(recipe.kind, kind::MEMBER | kind::INVITE) {
        draft.expires = recipe.expires;
    }
    if recipe.kind == kind::WORKLOAD || recipe.kind == kind::ATTACH {
        return draft.sign(&identity(recipe.subject));
    }
    let author: Identity = match recipe.author {
        0 => identity(OWNER),
        author @ 1..=2 => {
            draft.grant = ground[2 + recipe.grant % 3].id;
            identity(ADMINS[author - 1])
        }
        _ => {
            draft.grant = ground[5].id;
            identity(TICKET)
        }
    };
    draft.sign(&author)
}

fn documents() -> impl Strategy<Value = Vec<Arc<Signed>>> {
    prop::collection::vec(recipe(), 0..36).prop_map(|recipes| {
        let ground = ground();
        let signed = recipes.iter().map(|recipe| sign(recipe, &ground)).collect::<Vec<_>>();
        ground.into_iter().chain(signed).map(Arc::new).collect()
    })
}

fn clock() -> Clock {
    Clock { own: NOW, floor: 0, synchronised: true }
}

fn set_of<'a>(documents: impl Iterator<Item = &'a Arc<Signed>>) -> DocumentSet {
    let mut set = DocumentSet::default();
    documents.for_each(|signed| _ = set.insert(Arc::clone(signed)));
    set
}

/// As a node does it: what never counts again is dropped.
fn settle(set: &mut DocumentSet) -> State {
    let state = judge(set, &network(), clock());
    for (id, fate) in &state.fates {
        if matches!(fate, Fate::Void | Fate::Surplus) {
            set.remove(id);
        }
    }
    judge(set, &network(), clock())
}

/// What others are told, and what it amounts to.
fn outcome(state: &State) -> impl PartialEq + std::fmt::Debug + use<> {
    let shared: BTreeMap<_, _> =
        state.fates.iter().filter(|(_, fate)| fate.is_shared()).map(|(id, fate)| (*id, *fate)).collect();
    (
        shared,
        state.members.clone(),
        state.workloads.clone(),
        state.revoked.clone(),
        state.names.clone(),
        state.policy.as_ref().map(|(signed, _)| signed.id),
        state.head.clone(),
        state.digest,
    )
}

fn shuffled(documents: &[Arc<Signed>], order: &[usize]) -> Vec<Arc<Signed>> {
    let mut keyed: Vec<_> = documents.iter().enumerate().collect();
    keyed.sort_by_key(|(at, _)| (order[at % order.len()] ^ (at * 7919)) % 997);
    keyed.into_iter().map(|(_, signed)| Arc::clone(signed)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_outcome_depends_on_the_documents_and_not_on_their_order_or_number(
        documents in documents(),
        order in prop::collection::vec(any::<usize>(), 1..50),
    ) {
        let straight = judge(&set_of(documents.iter()), &network(), clock());
        let mixed = shuffled(&documents, &order);
        let twice: Vec<_> = mixed.iter().chain(&documents).cloned().collect();
        prop_assert_eq!(outcome(&straight), outcome(&judge(&set_of(mixed.iter()), &network(), clock())));
        prop_assert_eq!(outcome(&straight), outcome(&judge(&set_of(twice.iter()), &network(), clock())));
    }

    #[test]
    fn dropping_what_never_counts_again_changes_nothing(
        documents in documents(),
        order in prop::collection::vec(any::<usize>(), 1..50),
    ) {
        let straight = settle(&mut set_of(documents.iter()));
        let mut set = DocumentSet::default();
        for signed in shuffled(&documents, &order) {
            set.insert(signed);
            settle(&mut set);
        }
        // What came before its authority may have been dropped; comparing sets brings it again.
        documents.iter().for_each(|signed| _ = set.insert(Arc::clone(signed)));
        prop_assert_eq!(outcome(&straight), outcome(&settle(&mut set)));
    }

    #[test]
    fn parts_of_a_cut_network_come_to_one_outcome_when_they_tell_each_other(
        documents in documents(),
        parts in prop::collection::vec(0u8..8, 1..60),
    ) {
        let whole = settle(&mut set_of(documents.iter()));
        let mut sets: Vec<DocumentSet> = (0..3).map(|part| {
            let own = documents.iter().zip(parts.iter().cycle());
            set_of(own.filter(|(_, at)| *at & (1 << part) != 0 || **at == 0).map(|(signed, _)| signed))
        }).collect();
        // Cut off, each drops what it thinks it may.
        let mut states: Vec<State> = sets.iter_mut().map(settle).collect();
        let held: BTreeSet<_> = sets.iter().flat_map(|set| set.iter().map(|(_, s)| s.id).collect::<Vec<_>>()).collect();
        let all = documents.iter().all(|signed| held.contains(&signed.id));
        for _ in 0..4 {
            let told: Vec<Vec<Arc<Signed>>> = sets.iter().map(|set| set.iter().map(|(_, s)| Arc::clone(s)).collect()).collect();
            for set in &mut sets {
                told.iter().flatten().for_each(|signed| _ = set.insert(Arc::clone(signed)));
            }
            states = sets.iter_mut().map(settle).collect();
        }
        prop_assert_eq!(outcome(&states[0]), outcome(&states[1]));
        prop_assert_eq!(outcome(&states[0]), outcome(&states[2]));
        if all {
            prop_assert_eq!(outcome(&states[0]), outcome(&whole));
        }
    }

    #[test]
    fn who_is_revoked_never_counts_again_under_that_generation(documents in documents()) {
        let state = judge(&set_of(documents.iter()), &network(), clock());
        for member in state.members.values() {
            let revoked = state.revoked(kind::MEMBER, member.node.as_bytes());
            prop_assert!(revoked.is_none_or(|revoked| member.generation > revoked));
        }
        // Whatever else comes, an owner's revocation stays in force.
        for signed in documents.iter().filter(|s| s.document.author == s.document.network) {
            if let Some(Body::Revoke(revoke)) = &signed.body {
                let highest = state.revoked(revoke.target, &signed.document.subject);
                prop_assert!(highest >= Some(signed.document.generation));
            }
        }
    }

    #[test]
    fn no_address_belongs_to_two(documents in documents()) {
        let state = judge(&set_of(documents.iter()), &network(), clock());
        let mut numbers = BTreeSet::new();
        for member in state.members.values().filter(|member| member.is_valid()) {
            prop_assert!(numbers.insert(member.number), "number {} twice", member.number);
            if member.author == identity(ADMINS[0]).node_id() {
                prop_assert!((1..=3).contains(&member.number));
            }
            if member.author == identity(ADMINS[1]).node_id() {
                prop_assert!((5..=8).contains(&member.number));
            }
        }
        let mut addresses = BTreeSet::new();
        for workload in state.workloads.values() {
            let home = &state.members[&workload.home];
            for address in workload.addresses() {
                prop_assert!(addresses.insert(address), "{address} twice");
                prop_assert!(home.subnets.is_for_workloads(&address));
            }
        }
    }

    #[test]
    fn an_admin_never_reaches_beyond_the_era(documents in documents()) {
        let state = judge(&set_of(documents.iter()), &network(), clock());
        for member in state.members.values().filter(|member| member.author != identity(OWNER).node_id()) {
            prop_assert!((member.generation >> 16) as u16 <= state.era);
        }
    }
}

#[test]
fn the_recipes_make_members_workloads_and_revocations_that_count() {
    // The properties above would hold of nothing; so see that there is something.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut members, mut workloads, mut revoked, mut suspended) = (0, 0, 0, 0);
    for _ in 0..300 {
        let documents = proptest::strategy::ValueTree::current(&documents().new_tree(&mut runner).unwrap());
        let state = judge(&set_of(documents.iter()), &network(), clock());
        members += state.members.values().filter(|member| member.is_valid()).count();
        workloads += state.workloads.len();
        revoked += state.revoked.len();
        suspended += state.members.values().filter(|member| !member.is_valid()).count();
    }
    assert!(
        members > 200 && workloads > 20 && revoked > 100 && suspended > 20,
        "{members} members, {workloads} workloads, {revoked} revoked, {suspended} not valid"
    );
}

#[test]
fn a_range_is_only_taken_as_it_is_meant() {
    let sound = |len, member_len| Range4 { first: [10, 0, 0, 0].into(), len, member_len }.is_sound();
    assert!(
        sound(8, 24) && sound(16, 24) && sound(16, 28) && !sound(8, 25) && !sound(24, 24) && !sound(7, 20)
    );
}
