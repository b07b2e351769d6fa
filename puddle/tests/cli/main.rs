//! The binary, as a user meets it: what it does, what it prints, how it ends.

mod audit;
mod damage;
mod errors;
mod flow;
mod rejected;
mod sandbox;
mod secrets;
mod table;
