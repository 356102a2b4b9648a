//! The optimum, FIFO and LRU, exactly, without threads and without values.
//!
//! All of them index tables by the number of the key, which a real cache could not.

use crate::replay::{Engine, Room};
use crate::trace::{Request, Trace};
use std::collections::{BinaryHeap, VecDeque};

/// A time when nothing happens any more.
const NEVER: u32 = u32::MAX;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Belady's optimum: who is needed last leaves, the newcomer included, which then never comes in. An upper bound of
/// every policy where all weigh the same. Where sizes count it is only a good one.
pub(crate) struct Optimum {
    room: u64,
    used: u64,
    /// For each request, when its key is asked for again.
    again: Vec<u32>,
    now: usize,
    /// For each key: when it is needed next, if it is held.
    needed: Vec<Option<u32>>,
    weights: Vec<u32>,
    /// Times and numbers of those held, and outdated pairs of them.
    by_need: BinaryHeap<(u32, u32)>,
}

impl Optimum {
    pub(crate) fn new(trace: &Trace, room: Room) -> Self {
        let mut next = vec![NEVER; trace.keys];
        let mut again = vec![NEVER; trace.requests.len()];
        let mut time = NEVER;
        for (slot, request) in again.iter_mut().zip(&trace.requests).rev() {
            // Times only have to be in order, so the last request has the highest.
            time -= 1;
            *slot = std::mem::replace(&mut next[request.number as usize], time);
        }
        Self {
            room: room.weight,
            used: 0,
            again,
            now: 0,
            needed: vec![None; trace.keys],
            weights: vec![0; trace.keys],
            by_need: BinaryHeap::new(),
        }
    }

    fn drop_one(&mut self, number: u32) {
        self.needed[number as usize] = None;
        self.used -= u64::from(self.weights[number as usize]);
    }

    fn keep(&mut self, number: u32, time: u32) {
        self.needed[number as usize] = Some(time);
        self.by_need.push((time, number));
    }
}

impl Engine for Optimum {
    fn get(&mut self, request: Request) -> bool {
        let again = self.again[self.now];
        self.now += 1;
        let is_held = self.needed[request.number as usize].is_some();
        match again {
            _ if !is_held => {}
            NEVER => self.drop_one(request.number),
            time => self.keep(request.number, time),
        }
        is_held
    }

    fn insert(&mut self, request: Request) {
        let again = self.again[self.now - 1];
        let weight = u64::from(request.weight);
        if again == NEVER || weight > self.room {
            return;
        }
        while self.used + weight > self.room {
            let Some(&(time, number)) = self.by_need.peek() else { return };
            let is_current = self.needed[number as usize] == Some(time);
            if is_current && time <= again {
                return;
            }
            self.by_need.pop();
            if is_current {
                self.drop_one(number);
            }
        }
        self.weights[request.number as usize] = request.weight;
        self.used += weight;
        self.keep(request.number, again);
    }
}

/// Who came first leaves first.
pub(crate) struct Fifo {
    room: u64,
    used: u64,
    queue: VecDeque<u32>,
    /// Zero for those not held.
    weights: Vec<u32>,
}

impl Fifo {
    pub(crate) fn new(trace: &Trace, room: Room) -> Self {
        Self { room: room.weight, used: 0, queue: VecDeque::new(), weights: vec![0; trace.keys] }
    }
}

impl Engine for Fifo {
    fn get(&mut self, request: Request) -> bool {
        self.weights[request.number as usize] != 0
    }

    fn insert(&mut self, request: Request) {
        let weight = u64::from(request.weight);
        if weight > self.room {
            return;
        }
        while self.used + weight > self.room {
            let Some(first) = self.queue.pop_front() else { return };
            self.used -= u64::from(std::mem::take(&mut self.weights[first as usize]));
        }
        self.queue.push_back(request.number);
        self.weights[request.number as usize] = request.weight;
        self.used += weight;
    }
}

/// Who was not asked for the longest leaves.
pub(crate) struct Lru {
    room: u64,
    used: u64,
    /// Zero for those not held.
    weights: Vec<u32>,
    /// For each key held, the one asked for after it and the one before it.
    newer: Vec<u32>,
    older: Vec<u32>,
    newest: u32,
    oldest: u32,
}

impl Lru {
    pub(crate) fn new(trace: &Trace, room: Room) -> Self {
        let none = vec![NONE; trace.keys];
        let weights = vec![0; trace.keys];
        Self {
            room: room.weight,
            used: 0,
            weights,
            newer: none.clone(),
            older: none,
            newest: NONE,
            oldest: NONE,
        }
    }

    fn unlink(&mut self, number: u32) {
        let (newer, older) = (self.newer[number as usize], self.older[number as usize]);
        if newer == NONE {
            self.newest = older;
        } else {
            self.older[newer as usize] = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.newer[older as usize] = newer;
        }
    }

    fn link_newest(&mut self, number: u32) {
        let older = std::mem::replace(&mut self.newest, number);
        self.newer[number as usize] = NONE;
        self.older[number as usize] = older;
        if older == NONE {
            self.oldest = number;
        } else {
            self.newer[older as usize] = number;
        }
    }
}

impl Engine for Lru {
    fn get(&mut self, request: Request) -> bool {
        let is_held = self.weights[request.number as usize] != 0;
        if is_held {
            self.unlink(request.number);
            self.link_newest(request.number);
        }
        is_held
    }

    fn insert(&mut self, request: Request) {
        let weight = u64::from(request.weight);
        if weight > self.room {
            return;
        }
        while self.used + weight > self.room {
            let oldest = self.oldest;
            self.unlink(oldest);
            self.used -= u64::from(std::mem::take(&mut self.weights[oldest as usize]));
        }
        self.link_newest(request.number);
        self.weights[request.number as usize] = request.weight;
        self.used += weight;
    }
}
