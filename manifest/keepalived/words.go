package keepalived

import (
	"slices"
	"strings"
)

// topBlocks are the blocks that stand at the top only.
var topBlocks = map[string]bool{
	"global_defs": true, "vrrp_instance": true, "vrrp_sync_group": true, "vrrp_script": true, "vrrp_track_process": true, "vrrp_track_file": true,
	"virtual_server": true, "virtual_server_group": true, "bfd_instance": true, "static_ipaddress": true, "static_routes": true, "static_rules": true,
}

// globalWords are the options of global_defs that some version since 2.0 knows; source:
// keepalived.conf(5) and the changelogs up to 2.4.
var globalWords = strings.Fields(`
	bfd_cpu_affinity bfd_no_swap bfd_priority bfd_process_name bfd_rlimit_rtime bfd_rlimit_rttime bfd_rt_priority
	checker_cpu_affinity checker_log_all_failures checker_no_swap checker_priority checker_process_name checker_rlimit_rtime
	checker_rlimit_rttime checker_rt_priority child_wait_time config_save_dir data_use_instance dbus_no_interface_name dbus_service_name
	default_interface disable_local_igmp dynamic_interfaces enable_dbus enable_script_security enable_snmp_checker
	enable_snmp_keepalived enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 enable_snmp_vrrp enable_traps
	fifo_write_vrrp_states_on_reload include_check instance iproute_etc_dir iproute_usr_dir json_version linkbeat_use_polling
	log_unknown_vrids lvs_flush lvs_flush_on_stop lvs_flush_onstop lvs_netlink_cmd_rcv_bufs lvs_netlink_cmd_rcv_bufs_force
	lvs_netlink_monitor_rcv_bufs lvs_netlink_monitor_rcv_bufs_force lvs_notify_fifo lvs_notify_fifo_script lvs_sync_daemon
	lvs_timeouts max_auto_priority min_auto_priority_delay namespace_with_ipsets net_namespace net_namespace_ipvs nftables
	nftables_counters nftables_ifindex nftables_ipvs nftables_ipvs_priority nftables_ipvs_start_fwmark nftables_priority
	no_checker_emails no_email_faults no_virtual_ipaddress notification_email notification_email_from notify_fifo
	notify_fifo_script notify_priority_changes process_monitor_rcv_bufs process_monitor_rcv_bufs_force process_name process_names
	random_seed reload_check_config reload_file reload_repeat reload_time_file router_id rs_init_notifies script_user
	shutdown_script shutdown_script_timeout smtp_alert smtp_alert_checker smtp_alert_vrrp smtp_connect_timeout smtp_helo_name
	smtp_server snmp_name snmp_socket snmp_vrrp_start_time startup_script startup_script_timeout state_dump_file stats_dump_file
	thread_timer_expired timer_expired_backup tmp_config_directory umask use_pid_dir use_symlink_paths vmac_addr_prefix
	vmac_prefix vrrp_check_unicast_src vrrp_cpu_affinity vrrp_delay_after_boot vrrp_down_timer_adverts vrrp_garp_extra_if
	vrrp_garp_interval vrrp_garp_lower_prio_delay vrrp_garp_lower_prio_repeat vrrp_garp_master_delay vrrp_garp_master_refresh
	vrrp_garp_master_refresh_repeat vrrp_garp_master_repeat vrrp_gna_interval vrrp_higher_prio_send_advert vrrp_ipsets
	vrrp_iptables vrrp_lower_prio_no_advert vrrp_mcast_group4 vrrp_mcast_group6 vrrp_min_garp vrrp_netlink_cmd_rcv_bufs
	vrrp_netlink_cmd_rcv_bufs_force vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force vrrp_no_swap
	vrrp_notify_fifo vrrp_notify_fifo_script vrrp_notify_priority_changes vrrp_owner_ignore_adverts vrrp_priority
	vrrp_process_name vrrp_rlimit_rtime vrrp_rlimit_rttime vrrp_rt_priority vrrp_rx_bufs_multiplier vrrp_rx_bufs_policy
	vrrp_skip_check_adv_addr vrrp_startup_delay vrrp_strict vrrp_version vrrp_vmac_garp_intvl`)

// oldWords are spellings of patches and of versions before 1.3 that keepalived 2 ignores,
// with what stands for them.
var oldWords = map[string]string{
	"vrrp_unicast_bind": "unicast_src_ip", "vrrp_unicast_peer": "unicast_peer", "lvs_id": "router_id",
}

// unknownWord says that keepalived does not know a word, what it does, and what may have
// been meant. known are the words of that place.
func unknownWord(s *statement, known []string) string {
	text := "is not a word that keepalived knows here; it ignores the line"
	if s.isBlock {
		text = "is not a word that keepalived knows here; it ignores the whole block"
	}
	if now := oldWords[s.key()]; now != "" {
		return text + ". It is the spelling of an old patch for " + now
	}
	if like := likely(s.key(), known); like != "" {
		text += "; did you mean `" + like + "`?"
	}
	return text
}

// likely is the word that a misspelled one may have been: one that it begins with, a blank
// forgotten, or the nearest by at most two changes, also behind vrrp_; "" without one.
func likely(word string, known []string) string {
	sorted := slices.Sorted(slices.Values(known))
	best, nearest := "", 3
	for _, k := range sorted {
		if rest, ok := strings.CutPrefix(word, k); ok && rest != "" && topBlocks[k] {
			return k + " " + rest
		}
		for _, form := range []string{k, strings.TrimPrefix(k, "vrrp_")} {
			if d := distance(word, form, nearest); d < nearest {
				best, nearest = k, d
			}
		}
	}
	return best
}

// distance counts the insertions, removals, replacements and swaps of neighbours from a to b;
// no more than most is looked for.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most || len(a) > 64 || len(a) < 4 {
		return most
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
