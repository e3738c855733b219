use std::sync::Arc;
use serde_json::{Map, Value, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Intent, Store as _};
use sync_protocol::hub::{self, Store as _};
use sync_protocol::id::{Author, FieldName, RecordKey, Scope, Source};
use sync_protocol::loopback::{Link, exchange, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::merge::presence;
use sync_protocol::rules::Rules;

struct W { hub: MemoryHub, g: Vec<MemoryGateway>, link: Link, now: i64 }
fn obj(v: Value) -> Map<String, Value> { v.as_object().unwrap().clone() }
impl W {
    fn new(rules: &str, scopes: &[&str]) -> W {
        let rules = Arc::new(Rules::parse(rules).unwrap());
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        let g = scopes.iter().map(|s| {
            let scopes = vec![Scope::new(s).unwrap()];
            let known = hub.enroll(scopes.clone(), Source::CLINIC, [7; 8]);
            let mut gw = MemoryGateway::default();
            let mut st = gw.state().unwrap();
            (st.device, st.origin, st.token, st.scopes) = (known.device, known.origin, known.token, scopes);
            gw.set_state(&st).unwrap();
            gw.set_rules(Arc::clone(&rules)).unwrap();
            gw
        }).collect();
        W { hub, g, link: Link::new().unwrap(), now: 1_780_000_000_000 }
    }
    fn wish(&mut self, key: &str, intent: Intent) -> Capture {
        self.now += 1000;
        Capture { key: RecordKey::parse(key).unwrap(), intent, base: None, author: Some(Author::new("n").unwrap()), now_ms: self.now, quality: TimeQuality::Good }
    }
    fn put(&mut self, at: usize, key: &str, v: Value) { let w = self.wish(key, Intent::Put(obj(v))); gateway::capture(&mut self.g[at], w).unwrap(); }
    fn ex(&mut self, at: usize) -> sync_protocol::loopback::Traffic { let t = exchange(&mut self.g[at], &mut self.hub, &mut self.link, self.now as u64).unwrap(); println!("g{at} {t:?}"); t }
    fn sync(&mut self, at: usize) { let t = settle(&mut self.g[at], &mut self.hub, &mut self.link, self.now as u64, 20).unwrap(); println!("g{at} settle {t:?} repairs {}", self.g[at].state().unwrap().repairs); }
}
#[test] fn loser_only() {
    let mut w = W::new("version = 1\n[types.p.fields]\nm = \"max\"\n", &["mw", "mw"]);
    w.put(0, "p/1", json!({"m": 1})); w.sync(0); w.sync(1);
    w.put(0, "p/1", json!({"m": 9})); w.put(1, "p/1", json!({"m": 5}));
    w.sync(0); println!("head {:?}", w.hub.head());
    for _ in 0..4 { w.ex(1); }
    println!("head {:?} cursor {:?}", w.hub.head(), w.g[1].state().unwrap().cursor);
    for _ in 0..4 { w.ex(0); }
}
#[test] fn released_counter() {
    let mut w = W::new("version = 1\n[types.v]\nparents = { p = \"p\" }\n[types.v.fields]\nn = \"counter\"\ns=\"set\"\n", &["mw", "mw"]);
    w.put(0, "v/1", json!({"p": "1", "n": 5, "s":["a"]})); w.sync(0);
    w.put(1, "p/1", json!({"x": 1})); w.sync(1);
    w.put(1, "v/1", json!({"p": "1", "n": 7,"s":["a","b"]})); w.sync(1);
    w.sync(0);
    w.sync(1); w.sync(0);
}
#[test] fn blind() {
    let mut w = W::new("version = 1\n[types.p]\nscope = \"f\"\n", &["mw/a", "mw/b"]);
    w.put(1, "p/1", json!({"f": "mw/b", "x": 1})); w.sync(1);
    w.put(0, "p/1", json!({"f": "mw/a", "y": 1})); w.sync(0);
    println!("held {}", w.g[0].records().count());
    w.sync(1);
}
#[test] fn delete_review_set() {
    let mut w = W::new("version = 1\n[types.p.fields]\ns=\"set\"\n", &["mw", "mw"]);
    w.put(0, "p/1", json!({"s":["a"]})); w.sync(0); w.sync(1);
    w.put(1, "p/1", json!({"s":["a", "b"]})); w.sync(1);
    w.put(0, "p/1", json!({"s":["a", "c"]})); let d = w.wish("p/1", Intent::Delete); gateway::capture(&mut w.g[0], d).unwrap(); w.sync(0); w.sync(1);
    let rules = w.g[0].rules().unwrap();
    let k = RecordKey::parse("p/1").unwrap();
    println!("presence {:?} {:?}", presence(&w.g[1].record(&k).unwrap().visible, rules.of(&k.record_type)), w.g[1].record(&k).unwrap().visible.cells.keys().collect::<Vec<_>>());
}
#[test] fn numbers() {
    for l in ["1e400", "1E400", "1e+400", "1.50E-400", "-0", "0.10e5", "123456789012345678901234567890", "1e-5", "1E2", "1e16","10000000000000000"] {
        let v: Value = serde_json::from_str(l).unwrap();
        println!("{l} {:?} {}", sync_protocol::value::Value::from_json(&v), sync_protocol::value::Value::from_json(&v).to_json());
    }
}
#[test] fn twins() {
    let mut w = W::new("version = 1\n", &["mw"]);
    w.put(0, "p/1", json!({"s":1})); w.sync(0);
    let c = w.g[0].clone(); w.g.push(c);
    for i in 0..3 { println!("{:?}", w.ex(0).status); println!("{:?}", w.ex(1).status); let _ = i; }
}
