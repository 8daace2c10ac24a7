// Prometheus as the judge of a differential fuzzer: requests come as JSON, one a line, on stdin; answers go to stdout.
// It is compiled into the package promqltest of a Prometheus source tree as if it lay there, whose own tests open stores
// that keep start times.

package promqltest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// A request loads samples, or asks a query about what was loaded last; times in ms, a step of 0 asks for one instant.
type overseerAsk struct {
	Load  *string `json:"load"`
	Query string  `json:"query"`
	Start int64   `json:"start"`
	End   int64   `json:"end"`
	Step  int64   `json:"step"`
	// Whether empty buckets at either end of a range's histograms are to be seen too.
	Whole bool `json:"whole"`
}

type overseerSeries struct {
	Labels [][2]string `json:"labels"`
	Points [][2]string `json:"points"`
}

type overseerAnswer struct {
	ParseError string           `json:"parse_error,omitempty"`
	Error      string           `json:"error,omitempty"`
	Text       string           `json:"text,omitempty"`
	Type       string           `json:"type,omitempty"`
	Series     []overseerSeries `json:"series,omitempty"`
	Warnings   []string         `json:"warnings,omitempty"`
	Infos      []string         `json:"infos,omitempty"`
	Samples    int64            `json:"samples"`
}

// What several functions take follows the order of the series, which the store leaves open. Here it is that of Overseer.
type overseerSorted struct{ storage.Queryable }

func (s overseerSorted) Querier(from, to int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(from, to)
	return overseerSortedQuerier{q}, err
}

type overseerSortedQuerier struct{ storage.Querier }

func (s overseerSortedQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, m ...*labels.Matcher) storage.SeriesSet {
	set := s.Querier.Select(ctx, true, hints, m...)
	found := &overseerSeriesSet{SeriesSet: set, at: -1}
	for set.Next() {
		found.series = append(found.series, set.At())
	}
	sort.SliceStable(found.series, func(i, j int) bool {
		return overseerKey(found.series[i].Labels()) < overseerKey(found.series[j].Labels())
	})
	return found
}

type overseerSeriesSet struct {
	storage.SeriesSet // for errors and warnings
	series            []storage.Series
	at                int
}

func (s *overseerSeriesSet) Next() bool {
	s.at++
	return s.at < len(s.series)
}

func (s *overseerSeriesSet) At() storage.Series { return s.series[s.at] }

// Names and values in the order of names, each behind its length.
func overseerKey(l labels.Labels) string {
	var key []byte
	l.Range(func(l labels.Label) {
		for _, text := range []string{l.Name, l.Value} {
			key = binary.AppendUvarint(key, uint64(len(text)))
			key = append(key, text...)
		}
	})
	return string(key)
}

func overseerFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// A histogram as the test language writes it, with the empty buckets at its ends, which that leaves out.
func overseerWhole(h *histogram.FloatHistogram) string {
	const empty, shown = 0x1p-1000, "9.332636185032189e-302"
	h = h.Copy()
	for _, buckets := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
		for i := range buckets {
			if buckets[i] == 0 {
				buckets[i] = empty
			}
		}
	}
	return strings.ReplaceAll(h.TestExpression(), shown, "0")
}

func overseerTime(ms int64) string { return strconv.FormatInt(ms, 10) }

func overseerLabels(l labels.Labels) [][2]string {
	out := [][2]string{}
	l.Range(func(l labels.Label) { out = append(out, [2]string{l.Name, l.Value}) })
	return out
}

func TestOverseerOracle(t *testing.T) {
	if os.Getenv("OVERSEER_ORACLE_RUN") == "" {
		t.Skip("only Overseer's fuzzer runs this")
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	out := bufio.NewWriter(os.Stdout)
	engine := NewTestEngine(t, false, 0, 50_000_000)
	texts := parser.NewParser(TestParserOpts)
	store := LoadedStorage(t, "")
	for in.Scan() {
		var ask overseerAsk
		if err := json.Unmarshal(in.Bytes(), &ask); err != nil {
			t.Fatal(err)
		}
		var answer overseerAnswer
		if ask.Load != nil {
			store.Close()
			store = LoadedStorage(t, *ask.Load)
		} else {
			answer = overseerEvaluate(engine, texts, overseerSorted{store}, ask)
		}
		line, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
		out.WriteByte('\n')
		out.Flush()
	}
}

func overseerEvaluate(engine *promql.Engine, texts parser.Parser, store storage.Queryable, ask overseerAsk) (a overseerAnswer) {
	ctx := context.Background()
	expr, err := texts.ParseExpr(ask.Query)
	if err != nil {
		a.ParseError = err.Error()
		return a
	}
	a.Text = expr.String()
	var query promql.Query
	if ask.Step == 0 {
		query, err = engine.NewInstantQuery(ctx, store, nil, ask.Query, time.UnixMilli(ask.Start))
	} else {
		step := time.Duration(ask.Step) * time.Millisecond
		query, err = engine.NewRangeQuery(ctx, store, nil, ask.Query, time.UnixMilli(ask.Start), time.UnixMilli(ask.End), step)
	}
	if err != nil {
		a.Error = err.Error()
		return a
	}
	defer query.Close()
	result := query.Exec(ctx)
	a.Samples = query.Stats().Samples.TotalSamples
	if result.Err != nil {
		a.Error = result.Err.Error()
		return a
	}
	a.Type = string(result.Value.Type())
	switch v := result.Value.(type) {
	case promql.Vector:
		for _, s := range v {
			point := overseerFloat(s.F)
			if s.H != nil {
				point = s.H.TestExpression()
			}
			a.Series = append(a.Series, overseerSeries{overseerLabels(s.Metric), [][2]string{{overseerTime(s.T), point}}})
		}
	case promql.Matrix:
		for _, s := range v {
			series := overseerSeries{Labels: overseerLabels(s.Metric)}
			for _, p := range s.Floats {
				series.Points = append(series.Points, [2]string{overseerTime(p.T), overseerFloat(p.F)})
			}
			text := (*histogram.FloatHistogram).TestExpression
			if ask.Whole {
				text = overseerWhole
			}
			for _, p := range s.Histograms {
				series.Points = append(series.Points, [2]string{overseerTime(p.T), text(p.H)})
			}
			a.Series = append(a.Series, series)
		}
	case promql.Scalar:
		a.Series = []overseerSeries{{nil, [][2]string{{overseerTime(v.T), overseerFloat(v.V)}}}}
	case promql.String:
		a.Series = []overseerSeries{{nil, [][2]string{{overseerTime(v.T), v.V}}}}
	}
	a.Warnings, a.Infos = result.Warnings.AsStrings(ask.Query, 0, 0)
	sort.Strings(a.Warnings)
	sort.Strings(a.Infos)
	return a
}
