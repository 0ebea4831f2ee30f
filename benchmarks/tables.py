"""The bench that settings for tables are chosen on: 190 tables of OddBench, ODDS and ADBench, clean and contaminated.

"clean": training rows are normal. "contaminated": 60 % of all rows, outliers included, are training rows. At most 1,500 rows
are trained on and at most 1,500 are tested, drawn with the seed of the split. For ODDS and ADBench the splits are those of
``odds``.

Settings are chosen on every second table of OddBench by name ("choosing"), and on ODDS and ADBench. The other half
("reporting") is for a last look at what was chosen, with ``--groups reporting``. "MemAE, told" has as ``contamination`` the
share of outliers in the training data. Differences are to "MemAE", over tables, with their standard errors; in ranks 1 is best.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyod.models.lof import LOF
from scipy.stats import rankdata, sem
from sklearn.utils import Bunch

from odds import SPLITS
from shared import cells, protocol
from shared.detectors import CLEAN_SHARE, make_simple_rivals
from skmemae import MemAEDetector, datasets
from skmemae.benchmark import store
from skmemae.benchmark.detectors import OURS, Makers, OnScaledRows, make_detectors
from skmemae.benchmark.report import Rows, align, grouped

MOST = 1500  # rows to train on, and rows to test
TOLD = "MemAE, told"
COLUMNS = {"roc_auc": ".4f", "flagged_normal": ".3f", "fit_seconds": ".2f", "score_seconds": ".3f"}
RIVALS = ("1-NN", "KNN", "LOF", "IForest", "ECOD", "draws of 32", "KCM")
GROUPS = ("choosing", "reporting", "ODDS", "ADBench")
_USUAL = ("choosing", "ODDS", "ADBench")
ODDBENCH = """
AdPerformance AgriculturalLandUse AgriculturalYield AllegationAnalysis ArxivProcessing BankTransactions BearingFault
BioExperiment BridgeScour BudgetGoal BusinessProcessActivity BusinessProcessFraud CallRecordOutcomes CambridgeCrimes
CancerDiagnosis CarCondition ChemicalReactionAnalysis ChequeDishonour ChicagoFoodInspection CodeComplexity CodeDefects
CodeQualityMetrics CodeSmellSeverity CodeStrata CogLoadReaction CognitiveResponse ConditioningUnitPerformance
ConfidenceMetrics CreditJobAnomaly CrimeFraud CrimeFraudDetection CustomerContactOutcomes CustomerServiceTransactions
CybersecurityVulnerability DAOProposalOutcome DallasShelterOutcomes DatabaseConnectionAnomaly DatabaseInventoryStatus
DeathCauses DiamondClarity DisasterIncidentType DndRaceAnomalies DroneNavigation EmployeeLocationAnomalies
EndangeredSpeciesClassification EnergySystemAnomaly ExaminationOutcomes FinancialPortfolioAnomalies
FishingGearPerformance GameEngagement GameFrameDrop GameGathering GameItemMarket GeneticAnalysis GeologicalRift
GeologicalStructure GlobalSharkAttacks HealthSmokingIndicators HealthcareMessages HerbalDrugAuthorization
HockeyGameplay HospitalReadmissions HospitalSeverity HousingConstruction IdentityRiskValidation IncidentPortfolio
IncomeCategoryAnomaly IndiaAttackAnalysis IndustrialEquipment JobStatus JobStatusMonitoring LabTestAbnormality
LandShapeAnomaly LandslideVolume LibraryCheckout LineSystemSensors LockMalfunction MalwareClassification
MarketingTactics MassBalanceCheck MaterialDefect NFTPrimateRarity NavigationBugReport NetworkThreat NetworkTrafficDOS
NeuronalIntegrity OptimizationError OptimizationSolver OrderTransmission PatientHealth PatientReadmission
PlanetaryEmissions PokemonTypeAnomaly PoliceArrestFraud PoliceCadetEvaluation PoliceForceDisturbance
PoliticalSpendingPerception PopulationComparison PostcodeValidation PowerGridContingency ProcessState ProductLife
ProductionRunStatus ProjectIssueTracking ProjectSeverity ProteinArrayAnomalies ProteinSequenceDiversity
PsychophysicalDrugEffect QuotaStatusTracking RealEstateIrregularity RealEstateProperties RealEstateProperty
RecruitmentTechnicalRound ResidueLigandClassification RoadHazardDetection RxJavaPackage SalesFraudDetection
SaudiWeatherAnomalies SecurityIncidentCategorization SensorAnomaly ServiceErrorLocation SlowlorisAttackDetection
SnowDepthMonitoring SoccerActions SoftwareIssueSeverity SoilComposition SpatialErrorDetection SpeciesValidation
SpecimenStatus StatisticalTestResults StreetLightCrash StressFactors StudentProgrammePerformance SummaryAnomalies
SupremeCourtCases SystemFailureCases SystemGeometryCheck SystemReassignment TechnicalFaults TestCycleAnomalies
TextMessageSpam TorontoPoliceContacts TreeCondition TreeInventory TrialConditionAnomaly UVExposure UserEventAnomalies
VGG16CIFAR100Metrics VehicleGPS VehicleTheftAnomalies VideoGameViolence ViolationStatus VoteOutcome WaterMeterAnomaly
WaterQualityCarbon WeatherConditions WebTraffic WindFarmLayout WindTurbineFault WorkforceDemographics
""".split()  # noqa: SIM905


def main(argv: Sequence[str] | None = None) -> None:
    """For each kind of split, run all cells and print means, ranks and differences."""
    parser = protocol.make_protocol_parser("tables", __doc__, seeds=2)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="only these splits")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(_USUAL), help="only these groups of tables")
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="fits at a time (default: 1)")
    parser.add_argument(
        "--setting",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "PARAMETER=VALUE"),
        help="one more MemAEDetector and its parameters as JSON; contamination=told is the true share",
    )
    parser.add_argument("--beside", default="docs/results", metavar="DIR", help="stored rows to compare with (%(default)s)")
    args = parser.parse_args(argv)
    settings = {name: dict(map(parameter, given)) for name, *given in args.setting}
    for kind in args.splits:
        name = f"tables-{kind}"
        planned = protocol.plan(make_protocol(kind, args.groups, settings), args)
        rows = cells.run(planned, args.out, name, jobs=args.jobs)
        measured, sets = {row["detector"] for row in rows}, {row["data"] for row in rows}
        rows += [row for row in store.read(args.beside, name) if row["detector"] not in measured and row["data"] in sets]
        print(f"\n{report(rows, kind)}")


def make_protocol(
    kind: str, groups: Sequence[str] = _USUAL, settings: dict[str, dict[str, Any]] | None = None
) -> protocol.Protocol:
    """The protocol of a kind of split, with more settings by name."""
    loaders = {name: partial(load, group, name) for group, names in names_of(groups).items() for name in names}
    return protocol.Protocol(f"tables-{kind}", loaders, partial(tasks, kind), partial(makers, kind, settings or {}), COLUMNS)


def names_of(groups: Sequence[str]) -> dict[str, list[str]]:
    """Names of the tables of each group."""
    known = {
        "choosing": list(ODDBENCH[::2]),
        "reporting": list(ODDBENCH[1::2]),
        "ODDS": list(datasets.ODDS),
        "ADBench": list(datasets.ADBENCH),
    }
    return {group: known[group] for group in groups}


def load(group: str, name: str, data_home: str | None) -> Bunch:
    """Normal training rows, test rows and their labels of a table of OddBench; data and target of others."""
    if group in ("ODDS", "ADBench"):
        table = (datasets.load_odds if group == "ODDS" else datasets.load_adbench)(name, data_home)
        return Bunch(**{**table, "name": f"{group}/{name}"})
    path = Path(data_home or ".") / "oddbench" / f"{name}.npz"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; --data-home names the folder that holds oddbench.")
    with np.load(path) as arrays:
        return Bunch(name=f"{group}/{name}", **{key: arrays[key] for key in ("train", "test", "test_labels")})


def tasks(kind: str, table: Bunch, seed: int) -> Iterator[tuple[str, partial]]:
    """Yield the task, "", and the split of a table."""
    yield "", partial(split_rows, kind, table, seed)


def split_rows(kind: str, table: Bunch, seed: int) -> Bunch:
    """Split of a table, with at most :data:`MOST` rows on each side."""
    if kind == "clean" and "train" in table:
        split = Bunch(X_train=table.train, X_test=table.test, y_test=table.test_labels)
    else:
        split = SPLITS[kind](*all_rows(table), random_state=seed)
    rng = np.random.default_rng(seed)
    train, test = (rng.permutation(len(rows))[:MOST] for rows in (split.X_train, split.X_test))
    return Bunch(X_train=split.X_train[train], X_test=split.X_test[test], y_test=split.y_test[test])


def all_rows(table: Bunch) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a table, and their labels."""
    if "data" in table:
        return table.data, table.target
    normal = np.zeros(len(table.train), dtype=int)
    return np.concatenate([table.train, table.test]), np.concatenate([normal, table.test_labels])


def makers(kind: str, settings: dict[str, dict[str, Any]], table: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    share = CLEAN_SHARE if kind == "clean" else min(0.5, max(CLEAN_SHARE, float(all_rows(table)[1].mean())))
    others = {**make_detectors(seed), **make_simple_rivals(seed), "LOF": lambda: OnScaledRows(LOF())}
    true = {"contamination": share}
    told = {name: given | (true if given.get("contamination") == "told" else {}) for name, given in settings.items()}
    return {
        OURS: lambda: MemAEDetector(random_state=seed),
        TOLD: lambda: MemAEDetector(random_state=seed, contamination=share),
        **{name: partial(MemAEDetector, random_state=seed, **given) for name, given in told.items()},
        **{name: others[name] for name in RIVALS},
    }


def parameter(text: str) -> tuple[str, Any]:
    """A parameter's name and value; what is no JSON is a string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def report(rows: Rows, kind: str) -> str:
    """For each group of tables a line for each detector: mean ROC AUC, difference to MemAE, mean rank, seconds."""
    return "\n\n".join(f"{title}\n{align(cells)}" for title, cells in group_tables(rows, kind).items())


def group_tables(rows: Rows, kind: str) -> dict[str, list[list[str]]]:
    """Cells of a table for each group, by its title."""
    groups = grouped([{**row, "group": row["data"].partition("/")[0]} for row in rows], "group")
    return {f"{kind}, {name}, {len(grouped(group, 'data'))} tables": lines(group) for name, group in groups.items()}


def lines(rows: Rows) -> list[list[str]]:
    """Cells of the table of a group; the first line holds the titles."""
    sets = list(grouped(rows, "data"))
    names = [name for name, group in grouped(rows, "detector").items() if len(grouped(group, "data")) == len(sets)]
    means = {column: np.full((len(sets), len(names)), np.nan) for column in COLUMNS}
    for i, of_set in enumerate(grouped(rows, "data").values()):
        for j, name in enumerate(names):
            for column in COLUMNS:
                means[column][i, j] = np.mean([row[column] for row in of_set if row["detector"] == name])
    ranks = rankdata(-means["roc_auc"], axis=1).mean(axis=0)
    ours = means["roc_auc"][:, names.index(OURS)] if OURS in names else None
    table = [["detector", "ROC AUC", "to MemAE", "rank", "flagged normal", "fit s", "score s"]]
    for j, name in enumerate(names):
        difference = ""
        if ours is not None and name != OURS:
            differences = means["roc_auc"][:, j] - ours
            difference = f"{differences.mean():+.4f} ± {sem(differences):.4f}"
        numbers = {column: format(means[column][:, j].mean(), form).replace("nan", "") for column, form in COLUMNS.items()}
        table.append([name, numbers.pop("roc_auc"), difference, f"{ranks[j]:.2f}", *numbers.values()])
    return table


if __name__ == "__main__":
    main()
