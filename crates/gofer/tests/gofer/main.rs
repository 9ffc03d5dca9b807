//! A gofer in its process, as a sentry and whoever has taken a sentry over meet it. The host's file system is the oracle.
//!
//! Needs root. The runner has one thread and runs each test in a copy of itself, as a gofer is a copy of its maker.

mod equal;
mod hostile;
mod life;
mod net;
mod operations;
mod support;
mod trips;

fn main() {
    support::run(&[
        ("operations::a_walk_reaches_what_is_there", operations::a_walk_reaches_what_is_there),
        ("operations::a_walk_says_where_it_stopped", operations::a_walk_says_where_it_stopped),
        ("operations::a_walk_checks_what_is_known", operations::a_walk_checks_what_is_known),
        ("operations::a_walk_can_open", operations::a_walk_can_open),
        ("operations::data_moves_through_the_descriptor", operations::data_moves_through_the_descriptor),
        ("operations::files_are_made_in_their_owners_name", operations::files_are_made_in_their_owners_name),
        ("operations::a_file_without_a_name_can_get_one", operations::a_file_without_a_name_can_get_one),
        ("operations::an_open_place_outlives_its_name", operations::an_open_place_outlives_its_name),
        ("operations::attributes_of_the_hosts_stay_hidden", operations::attributes_of_the_hosts_stay_hidden),
        ("operations::a_long_attribute_fits", operations::a_long_attribute_fits),
        ("operations::a_file_systems_figures_are_the_hosts", operations::a_file_systems_figures_are_the_hosts),
        ("operations::a_single_file_is_an_export", operations::a_single_file_is_an_export),
        ("operations::what_is_mounted_below_is_seen_or_not", operations::what_is_mounted_below_is_seen_or_not),
        ("operations::exports_are_apart", operations::exports_are_apart),
        ("equal::any_sequence_of_requests_does_what_calls_do", equal::any_sequence_of_requests_does_what_calls_do),
        ("hostile::no_name_leads_out", hostile::no_name_leads_out),
        ("hostile::symbolic_links_are_not_followed", hostile::symbolic_links_are_not_followed),
        ("hostile::a_link_that_comes_and_goes_is_not_followed", hostile::a_link_that_comes_and_goes_is_not_followed),
        ("hostile::no_magic_link_is_followed", hostile::no_magic_link_is_followed),
        ("hostile::a_read_only_export_refuses_each_change", hostile::a_read_only_export_refuses_each_change),
        ("hostile::pipes_and_devices_are_not_opened", hostile::pipes_and_devices_are_not_opened),
        ("hostile::an_export_can_allow_pipes_and_devices", hostile::an_export_can_allow_pipes_and_devices),
        ("hostile::handles_that_do_not_exist_are_refused", hostile::handles_that_do_not_exist_are_refused),
        ("hostile::bytes_that_are_no_message_are_refused", hostile::bytes_that_are_no_message_are_refused),
        ("hostile::random_messages_do_no_harm", hostile::random_messages_do_no_harm),
        ("hostile::a_million_handles_are_too_many", hostile::a_million_handles_are_too_many),
        ("hostile::who_reads_no_answers_blocks_nobody_else", hostile::who_reads_no_answers_blocks_nobody_else),
        ("life::it_ends_with_its_client", life::it_ends_with_its_client),
        ("life::it_ends_with_a_killed_client", life::it_ends_with_a_killed_client),
        ("life::a_lost_gofer_is_an_error", life::a_lost_gofer_is_an_error),
        ("life::a_missing_export_is_said", life::a_missing_export_is_said),
        ("life::it_has_given_everything_up", life::it_has_given_everything_up),
        ("life::many_threads_ask_at_once", life::many_threads_ask_at_once),
        ("life::handles_are_given_back", life::handles_are_given_back),
        ("life::a_forbidden_call_ends_it", life::a_forbidden_call_ends_it),
        ("life::the_calls_are_those_in_the_list", life::the_calls_are_those_in_the_list),
        ("net::sockets_are_made_named_and_connected", net::sockets_are_made_named_and_connected),
        ("net::a_socket_is_gone_when_it_is_closed", net::a_socket_is_gone_when_it_is_closed),
        ("net::only_listed_options_are_set", net::only_listed_options_are_set),
        ("net::what_is_no_socket_of_the_network_is_refused", net::what_is_no_socket_of_the_network_is_refused),
        ("net::bytes_that_are_no_request_do_no_harm", net::bytes_that_are_no_request_do_no_harm),
        ("net::it_has_given_all_but_the_network_up", net::it_has_given_all_but_the_network_up),
        ("net::it_ends_with_its_client", net::it_ends_with_its_client),
        ("trips", trips::measure),
    ]);
}
