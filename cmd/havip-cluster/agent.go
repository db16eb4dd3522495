package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"havip-cluster/agent"
	"havip-cluster/agent/guard"
	"havip-cluster/agent/logs"
	"havip-cluster/netdev/fence"
)

func newAgentCommand(g *globals) *cobra.Command {
	var verbose, noFence, noGuard, cleanup bool
	choice := fence.ChoiceAuto
	var configFile string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this node in the foreground",
		Long: "Run this node in the foreground. Logs go to stderr.\n\n" +
			"SIGTERM or SIGINT hands every HAVIP over to another node and then stops; a second one stops at once.\n\n" +
			"The agent runs under a guard, a parent that renews the lease with real-time priority: should the agent die, the guard\n" +
			"takes its HAVIPs off and reports its session released, so that failover does not wait for the lease to run out.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := agent.LoadConfig(configFile)
			if err != nil {
				return err
			}
			floor := slog.LevelInfo
			if verbose {
				floor = slog.LevelDebug
			}
			var level slog.LevelVar
			level.Set(min(config.Level(), floor))
			log, sink := logs.New(g.stderr, &level)
			sink.SetFormat(config.LogFormat)
			// The error with which the agent ends waits for no reader either.
			g.stderr, g.flush = sink.Writer(), func() { sink.Flush(logs.EndWait) }
			switch {
			case cleanup:
				return guard.CleanUp(g.dataDir, log, noFence)
			case noGuard || os.Getenv(guard.ChildEnv) != "":
				return agent.Run(cmd.Context(), agent.Options{
					Dir: g.dataDir, Version: programVersion(), Log: log, Sink: sink, Level: &level, Floor: floor, ConfigFile: configFile, Fence: choice, NoFence: noFence,
				})
			}
			return guard.Run(g.dataDir, choice, log)
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file (YAML: log, log_format, check_gateway, checks, hooks, provider, webhook_allow); read again at SIGHUP")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what Raft and gossip do, too")
	cmd.Flags().BoolVar(&noFence, "no-fence", false, "do without the kernel's fence: only this process then ends a lease in time (for kernels without eBPF and nftables)")
	cmd.Flags().Var(&choice, "fence", "take this kind of fence alone, and refuse to start without it")
	cmd.Flags().BoolVar(&noGuard, "no-guard", false, "run without the guard (for debugging): if the process dies, its HAVIPs wait for the lease to run out")
	cmd.Flags().BoolVar(&cleanup, "cleanup", false, "only remove what a dead agent left: addresses, routes, fence; refused while one runs")
	return cmd
}
