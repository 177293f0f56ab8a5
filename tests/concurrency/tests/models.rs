//! Runs the models of the library; there is one test for each.

use adit_concurrency::{commands, notifications, routing, tokens, waker, writer};

macro_rules! models {
    ($($of:ident: $($model:ident)*;)*) => {
        $($(#[test] fn $model() { $of::$model(); })*)*
    };
}

models! {
    waker: no_news_is_missed_by_a_loop_that_waits;
    commands: every_command_is_obeyed a_loop_that_stops_leaves_nobody_waiting;
    tokens: of_all_who_spend_a_token_one_gets_in a_client_token_is_bound_once nobody_stays_by_a_token_that_is_gone;
    routing: a_rotation_among_links_that_come_and_go an_end_among_links_that_come_and_go;
    writer: a_change_is_there_where_its_caller_was_told_so;
    notifications: each_arrives_or_is_taken_back;
}

// Models are tested by mistakes.

#[test]
#[should_panic(expected = "news are there, and no edge")]
fn a_loop_that_looks_before_it_acknowledges_is_found_out() {
    waker::a_loop_that_looks_before_it_acknowledges();
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_loop_that_takes_before_it_acknowledges_is_found_out() {
    commands::a_loop_that_takes_before_it_acknowledges();
}
